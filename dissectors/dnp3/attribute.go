package dnp3

// attributeNames are the device attributes of annex A, group 0 set 0, that say which device it is.
var attributeNames = map[uint8]string{
	242: "software_version",
	243: "hardware_version",
	245: "location",
	246: "identification_code",
	247: "device_name",
	248: "serial_number",
	249: "subset_and_conformance",
	250: "product_name",
	252: "manufacturer",
}

// AttributeName returns what a device attribute, one variation of group 0, says of the device; "" for those
// that say how it is set up.
func AttributeName(variation uint8) string { return attributeNames[variation] }
