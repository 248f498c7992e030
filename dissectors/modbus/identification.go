package modbus

// The MEI types of function 43 (AP 6.19). All others are reserved.
const (
	MEICANopenGeneralReference  uint8 = 13
	MEIReadDeviceIdentification uint8 = 14
)

// individualAccess is the read device identification code for one object by its number.
const individualAccess = 4

// Object is one entry of a device identification, such as the vendor's name (0) or the product
// code (1).
type Object struct {
	ID    uint8
	Value []byte // aliases the message
}

// Objects walks through the objects of a device identification as Records does through records.
type Objects struct {
	Object
	rest []byte
}

// Next goes to the next object and tells whether there is one.
func (c *Objects) Next() bool {
	if len(c.rest) < 2 || len(c.rest) < 2+int(c.rest[1]) {
		return false
	}
	size := 2 + int(c.rest[1])
	c.Object = Object{ID: c.rest[0], Value: c.rest[2:size]}
	c.rest = c.rest[size:]
	return true
}

// identificationHeader is MEI type, code, conformity level, more follows, next object id and
// number of objects.
const identificationHeader = 6

// checkIdentification judges a device identification reply (AP 6.21); want is the body's length.
// The objects have to end exactly where the message does.
func checkIdentification(body []byte, want int) *MalformedError {
	if want < identificationHeader || want == identificationHeader+1 { // no object is one byte long
		return errFunctionLength
	}
	if len(body) > 1 && (body[1] < 1 || body[1] > individualAccess) {
		return errDeviceIDCode
	}
	if len(body) < identificationHeader {
		return nil
	}
	count, off := int(body[identificationHeader-1]), identificationHeader
	for ; count > 0 && off+1 < len(body); count-- {
		off += 2 + int(body[off+1])
	}
	// What is missing is at least 2 bytes an object, and nothing may be left over.
	if left := want - off; left < 2*count || count == 0 && left != 0 {
		return errObjects
	}
	return nil
}
