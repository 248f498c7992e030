package cip

import "strconv"

// Identity is what a device says of itself: the attributes of an instance of the Identity object (V1 5-2.2).
// A field that was not read is zero.
type Identity struct {
	Vendor, DeviceType, ProductCode uint16
	Major, Minor                    uint8 // of the revision
	Serial                          uint32
	Name                            []byte // of the product; aliases what was read

	HasVendor, HasType, HasRevision, HasSerial bool
}

// The attributes of the Identity object.
const (
	identityVendor      = 1
	identityDeviceType  = 2
	identityProductCode = 3
	identityRevision    = 4
	identityStatus      = 5
	identitySerial      = 6
	identityName        = 7
)

// set reads one attribute at the beginning of b and returns its size, 0 where it is not known or not all
// there.
func (i *Identity) set(attribute uint16, b []byte) int {
	const short, long = 2, 4
	size := short
	switch attribute {
	case identityVendor, identityDeviceType, identityProductCode, identityRevision, identityStatus:
	case identitySerial:
		size = long
	case identityName:
		if len(b) == 0 {
			return 0
		}
		size = 1 + int(b[0])
	default:
		return 0
	}
	if len(b) < size {
		return 0
	}
	switch attribute {
	case identityVendor:
		i.Vendor, i.HasVendor = value16(b, 0), true
	case identityDeviceType:
		i.DeviceType, i.HasType = value16(b, 0), true
	case identityProductCode:
		i.ProductCode = value16(b, 0)
	case identityRevision:
		i.Major, i.Minor, i.HasRevision = b[0], b[1], true
	case identitySerial:
		i.Serial, i.HasSerial = value32(b, 0), true
	case identityName:
		i.Name = b[1:size:size]
	}
	return size
}

// Parse reads attributes 1 to 7, one behind the other, as Get_Attributes_All and a ListIdentity item have
// them (V1 5-2.3.2, V2 2-4.3.3), and reports whether all are there.
func (i *Identity) Parse(b []byte) bool {
	*i = Identity{}
	for attribute := uint16(identityVendor); attribute <= identityName; attribute++ {
		n := i.set(attribute, b)
		if n == 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// Identity reads what the whole, successful reply to q says of the device, and reports whether it says anything:
// q has to read instance 1 of the Identity object, which is the device as a whole.
func (r *Reply) Identity(q *Request, i *Identity) bool {
	p := &q.Path
	*i = Identity{}
	if r.Status != StatusSuccess || r.Code != q.Code || p.Class != ClassIdentity || !p.HasInstance || p.Instance != 1 || len(p.Parents()) > 0 {
		return false
	}
	switch q.Code {
	case GetAttributesAll:
		return i.Parse(r.Data)
	case GetAttributeSingle:
		return p.HasAttribute && p.Attribute <= identityName && i.set(uint16(p.Attribute), r.Data) == len(r.Data) && len(r.Data) > 0
	case GetAttributeList:
		return i.setList(r.Data)
	}
	return false
}

// setList reads the reply to Get_Attribute_List: how many, and of each its number, its status and, if that is
// success, its value (V1 ). It ends with the first whose size it does not know.
func (i *Identity) setList(b []byte) (some bool) {
	const head = 4
	count := int(value16(b, 0))
	for b = from(b, 2); count > 0 && len(b) >= head; count-- {
		attribute, status := value16(b, 0), value16(b, 2)
		if b = b[head:]; status != 0 {
			continue
		}
		n := i.set(attribute, b)
		if n == 0 {
			return some
		}
		b, some = b[n:], true
	}
	return some
}

// vendors are names of makers that are met often, by the number that ODVA has given them.
var vendors = map[uint16]string{
	1: "Rockwell Automation", 5: "Rockwell Automation", 26: "Festo", 40: "WAGO", 44: "Yaskawa", 46: "ABB", 47: "Omron",
	48: "Turck", 57: "Pepperl+Fuchs", 82: "Mitsubishi Electric", 90: "HMS", 97: "Danfoss", 108: "Beckhoff",
	161: "Mitsubishi Electric", 243: "Schneider Electric", 255: "Bosch Rexroth", 256: "Turck", 283: "Hilscher",
	315: "SEW-Eurodrive", 322: "ifm", 345: "Endress+Hauser", 356: "Fanuc", 367: "Keyence", 445: "Lenze",
	562: "Phoenix Contact", 634: "Hirschmann", 640: "Murrelektronik", 678: "Cognex", 808: "SICK", 939: "Cisco", 991: "Moxa",
}

// deviceTypes are the profiles that are met often (V1 chapter 6).
var deviceTypes = map[uint16]string{
	0x02: "AC drive", 0x03: "motor overload", 0x07: "discrete I/O", 0x0c: "communications adapter",
	0x0e: "programmable logic controller", 0x10: "position controller", 0x13: "DC drive", 0x16: "motor starter",
	0x17: "soft start", 0x18: "human-machine interface", 0x1b: "pneumatic valve", 0x22: "encoder",
	0x23: "safety discrete I/O", 0x25: "motion drive", 0x2a: "safety analog I/O", 0x2b: "generic device",
	0x2c: "managed Ethernet switch", 0x2e: "safety drive",
}

// VendorName returns the maker's name where it is met often, and its number otherwise.
func (i *Identity) VendorName() string { return nameOf(vendors, i.Vendor) }

// TypeName returns the device profile's name where it is met often, and its number otherwise.
func (i *Identity) TypeName() string { return nameOf(deviceTypes, i.DeviceType) }

func nameOf(names map[uint16]string, number uint16) string {
	if name, ok := names[number]; ok {
		return name
	}
	return strconv.Itoa(int(number))
}
