package inspect

import "github.com/penstock-ot/penstock/internal/identity"

// The device attributes that say which device it is (IEEE 1815 annex A, group 0).
const (
	attributeSoftware     = 242
	attributeName         = 247 // given by its user
	attributeSerial       = 248
	attributeProduct      = 250
	attributeManufacturer = 252
)

// claim reads device attributes out of a response.
func (m *dnp3Message) claim() (identity.Claim, bool) {
	if !m.whole || !m.frame.CarriesData() || !m.message.IsResponse {
		return identity.Claim{}, false
	}
	c := identity.Claim{Protocol: "dnp3"}
	for headers := m.message.Headers(); headers.Next(); {
		for objects := headers.Objects(); objects.Next(); {
			text, ok := headers.Attribute(objects.Data)
			if !ok {
				break // of a header's objects, all are attributes or none
			}
			switch headers.Variation {
			case attributeSoftware:
				c.Revision = text
			case attributeName:
				c.Name = text
			case attributeSerial:
				c.Serial = text
			case attributeProduct:
				c.Product = text
			case attributeManufacturer:
				c.Vendor = text
			}
		}
	}
	return c, c != identity.Claim{Protocol: "dnp3"}
}
