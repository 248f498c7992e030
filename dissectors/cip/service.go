package cip

import "fmt"

// ServiceCode is a CIP service without the reply bit: 1..127 on the wire (V1 appendix A).
type ServiceCode uint8

// replyBit in a service says that it is a reply.
const replyBit = 0x80

// Owner tells which objects give a service its meaning. Codes below 0x4b (V1 A-2) are common; those from
// there up belong to the object that the path names.
type Owner uint8

// The owners.
const (
	AnyOwner          Owner = iota // common services, and objects whose own services are not known here
	Tags                           // the data table of a controller: tags, and class 0x6b
	ConnectionManager              // class 6
	PCCC                           // class 0x67
	Template                       // class 0x6c
	File                           // class 0x37
)

// The services with a part in how messages are read.
const (
	GetAttributesAll      ServiceCode = 0x01
	SetAttributesAll      ServiceCode = 0x02
	GetAttributeList      ServiceCode = 0x03
	SetAttributeList      ServiceCode = 0x04
	Reset                 ServiceCode = 0x05
	Start                 ServiceCode = 0x06
	Stop                  ServiceCode = 0x07
	MultipleServicePacket ServiceCode = 0x0a
	GetAttributeSingle    ServiceCode = 0x0e
	SetAttributeSingle    ServiceCode = 0x10
	GetMember             ServiceCode = 0x18
	SetMember             ServiceCode = 0x19
	InsertMember          ServiceCode = 0x1a
	RemoveMember          ServiceCode = 0x1b

	FirstOwn ServiceCode = 0x32 // from here up vendors and objects define what a service is (V1 A-2)

	ExecutePCCC ServiceCode = 0x4b // of PCCC

	ReadTag              ServiceCode = 0x4c // of Tags
	WriteTag             ServiceCode = 0x4d
	ReadModifyWriteTag   ServiceCode = 0x4e
	ReadTagFragmented    ServiceCode = 0x52
	WriteTagFragmented   ServiceCode = 0x53
	GetInstanceAttribute ServiceCode = 0x55

	ForwardClose     ServiceCode = 0x4e // of ConnectionManager
	UnconnectedSend  ServiceCode = 0x52
	ForwardOpen      ServiceCode = 0x54
	LargeForwardOpen ServiceCode = 0x5b

	ReadTemplate ServiceCode = 0x4c // of Template
)

// NamedService is a service with its name in snake_case.
type NamedService struct {
	Name  string
	Code  ServiceCode
	Owner Owner
}

// services are those with names (V1 appendix A, chapters 3 and 5; the data table's, templates' and PCCC's
// from the vendor's published manuals).
var services = [...]NamedService{
	{"get_attributes_all", 0x01, AnyOwner},
	{"set_attributes_all", 0x02, AnyOwner},
	{"get_attribute_list", 0x03, AnyOwner},
	{"set_attribute_list", 0x04, AnyOwner},
	{"reset", 0x05, AnyOwner},
	{"start", 0x06, AnyOwner},
	{"stop", 0x07, AnyOwner},
	{"create", 0x08, AnyOwner},
	{"delete", 0x09, AnyOwner},
	{"multiple_service_packet", 0x0a, AnyOwner},
	{"apply_attributes", 0x0d, AnyOwner},
	{"get_attribute_single", 0x0e, AnyOwner},
	{"set_attribute_single", 0x10, AnyOwner},
	{"find_next_object_instance", 0x11, AnyOwner},
	{"restore", 0x15, AnyOwner},
	{"save", 0x16, AnyOwner},
	{"no_operation", 0x17, AnyOwner},
	{"get_member", 0x18, AnyOwner},
	{"set_member", 0x19, AnyOwner},
	{"insert_member", 0x1a, AnyOwner},
	{"remove_member", 0x1b, AnyOwner},
	{"group_sync", 0x1c, AnyOwner},
	{"execute_pccc", 0x4b, PCCC},
	{"read_tag", 0x4c, Tags},
	{"write_tag", 0x4d, Tags},
	{"read_modify_write_tag", 0x4e, Tags},
	{"read_tag_fragmented", 0x52, Tags},
	{"write_tag_fragmented", 0x53, Tags},
	{"get_instance_attribute_list", 0x55, Tags},
	{"read_template", 0x4c, Template},
	{"forward_close", 0x4e, ConnectionManager},
	{"unconnected_send", 0x52, ConnectionManager},
	{"forward_open", 0x54, ConnectionManager},
	{"get_connection_data", 0x56, ConnectionManager},
	{"search_connection_data", 0x57, ConnectionManager},
	{"get_connection_owner", 0x5a, ConnectionManager},
	{"large_forward_open", 0x5b, ConnectionManager},
	{"initiate_upload", 0x4b, File},
	{"initiate_download", 0x4c, File},
	{"initiate_partial_read", 0x4d, File},
	{"initiate_partial_write", 0x4e, File},
	{"upload_transfer", 0x4f, File},
	{"download_transfer", 0x50, File},
	{"clear_file", 0x51, File},
}

// Services returns the services that have names. The caller must not change the list.
func Services() []NamedService { return services[:] }

// ServiceName returns the name of a service of an object in snake_case, or unknown(0x4b).
func ServiceName(code ServiceCode, owner Owner) string {
	for i := range services {
		s := &services[i]
		if s.Code == code && (s.Owner == owner || s.Owner == AnyOwner) {
			return s.Name
		}
	}
	return fmt.Sprintf("unknown(0x%02x)", uint8(code))
}

// Changes tells whether a service is, or may be, more than a read.
func Changes(code ServiceCode, owner Owner) bool {
	switch code {
	case GetAttributesAll, GetAttributeList, GetAttributeSingle, 0x11, 0x17, GetMember:
		return false
	case MultipleServicePacket:
		return false // its services speak for themselves
	}
	switch owner {
	case Tags:
		return code != ReadTag && code != ReadTagFragmented && code != GetInstanceAttribute
	case Template:
		return code != ReadTemplate
	case ConnectionManager: // opening and closing connections does not change what the device does
		return code < 0x4b
	case File:
		return code != 0x4b && code != 0x4d && code != 0x4f
	}
	return true
}
