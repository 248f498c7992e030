package cip

import "fmt"

// The classes with a part in how messages are read (V1 chapter 5).
const (
	ClassIdentity          = 0x01
	ClassMessageRouter     = 0x02
	ClassAssembly          = 0x04
	ClassConnectionManager = 0x06
	ClassFile              = 0x37
	ClassPCCC              = 0x67
	ClassSymbol            = 0x6b
	ClassTemplate          = 0x6c
)

// NamedClass is a class with its name in snake_case.
type NamedClass struct {
	Name  string
	Class uint32
}

// classes are the classes with names: V1 table 5-1.1, CIP Safety (volume 5) and CIP Security (volume 8),
// and the controllers' symbols, templates and PCCC.
var classes = [...]NamedClass{
	{"identity", 0x01}, {"message_router", 0x02}, {"device_net", 0x03}, {"assembly", 0x04},
	{"connection", 0x05}, {"connection_manager", 0x06}, {"register", 0x07},
	{"discrete_input_point", 0x08}, {"discrete_output_point", 0x09},
	{"analog_input_point", 0x0a}, {"analog_output_point", 0x0b},
	{"parameter", 0x0f}, {"parameter_group", 0x10}, {"file", 0x37},
	{"safety_supervisor", 0x39}, {"safety_validator", 0x3a},
	{"time_sync", 0x43}, {"dlr", 0x47}, {"qos", 0x48},
	{"cip_security", 0x5d}, {"ethernet_ip_security", 0x5e}, {"certificate_management", 0x5f},
	{"pccc", 0x67}, {"symbol", 0x6b}, {"template", 0x6c},
	{"port", 0xf4}, {"tcp_ip_interface", 0xf5}, {"ethernet_link", 0xf6},
}

// Classes returns the classes that have names. The caller must not change the list.
func Classes() []NamedClass { return classes[:] }

// ClassName returns a class's name in snake_case, or 0x64 for one without.
func ClassName(class uint32) string {
	for _, c := range classes {
		if c.Class == class {
			return c.Name
		}
	}
	return fmt.Sprintf("0x%02x", class)
}
