package inspect

import (
	"github.com/penstock-ot/penstock/dissectors/modbus"
	"github.com/penstock-ot/penstock/internal/identity"
)

// The objects of a device identification that say which device it is (AP 6.21).
const (
	objectVendorName  = 0
	objectProductCode = 1
	objectRevision    = 2
	objectProductName = 4
	objectModelName   = 5
	objectUserName    = 6
)

// claim reads a device identification (function 43, MEI type 14). The product is the most telling
// of its names that the reply holds.
func (m *modbusMessage) claim() (identity.Claim, bool) {
	if !m.isResponse || m.response.Exception != 0 || m.response.Function != modbus.EncapsulatedInterfaceTransport {
		return identity.Claim{}, false
	}
	c := identity.Claim{Protocol: "modbus"}
	var product [objectUserName + 1]string
	for objects := m.response.Objects(); objects.Next(); {
		text := string(objects.Value)
		switch objects.ID {
		case objectVendorName:
			c.Vendor = text
		case objectRevision:
			c.Revision = text
		case objectUserName:
			c.Name = text
		case objectProductCode, objectProductName, objectModelName:
			product[objects.ID] = text
		}
	}
	for _, id := range []int{objectProductCode, objectModelName, objectProductName} {
		if product[id] != "" {
			c.Product = product[id]
		}
	}
	return c, c != identity.Claim{Protocol: "modbus"}
}
