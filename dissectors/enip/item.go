package enip

import (
	"fmt"
	"net/netip"
)

// ItemType is the type of a common packet format item (V2 2-6.3).
type ItemType uint16

// The item types.
const (
	NullAddress      ItemType = 0x0000
	ListIdentityItem ItemType = 0x000c
	ConnectedAddress ItemType = 0x00a1
	ConnectedData    ItemType = 0x00b1
	UnconnectedData  ItemType = 0x00b2
	ListServicesItem ItemType = 0x0100
	SocketToTarget   ItemType = 0x8000 // Sockaddr Info, O->T
	SocketToSource   ItemType = 0x8001 // Sockaddr Info, T->O
	SequencedAddress ItemType = 0x8002
	UnconnectedDTLS  ItemType = 0x8003
)

// String returns the type's name in snake_case, or unknown(0x0005).
func (t ItemType) String() string {
	switch t {
	case NullAddress:
		return "null_address"
	case ListIdentityItem:
		return "list_identity"
	case ConnectedAddress:
		return "connected_address"
	case ConnectedData:
		return "connected_data"
	case UnconnectedData:
		return "unconnected_data"
	case ListServicesItem:
		return "list_services"
	case SocketToTarget:
		return "sockaddr_info_o_t"
	case SocketToSource:
		return "sockaddr_info_t_o"
	case SequencedAddress:
		return "sequenced_address"
	case UnconnectedDTLS:
		return "unconnected_message_over_dtls"
	}
	return fmt.Sprintf("unknown(0x%04x)", uint16(t))
}

// MaxItems is how many items a message may have: an address, data, and two socket addresses. More has
// no meaning in the specification.
const MaxItems = 4

// MaxListItems is how many items a reply to a discovery command may have. A device has one identity and offers
// one service (V2 2-4.2, 2-4.3), and who reads a reply that arrives in pieces reads its list with each of them.
const MaxListItems = 64

// Item is one item. Data aliases the message; in a prefix it is what has arrived, of Length bytes.
type Item struct {
	Type   ItemType
	Length int
	Data   []byte
}

// Socket is a Sockaddr Info item (V2 2-6.3.6): where implicit data is to be sent. Its bytes are in
// network order.
type Socket struct {
	Address netip.AddrPort
	Given   bool
}

const socketLength = 16

// itemSize returns how long items of the type are, -1 if any length is lawful, and whether the type has a
// place beside CIP.
func itemSize(t ItemType) (size int, ok bool) {
	switch t {
	case NullAddress:
		return 0, true
	case ConnectedAddress:
		return 4, true
	case ConnectedData, UnconnectedData:
		return -1, true
	case SocketToTarget, SocketToSource:
		return socketLength, true
	}
	return 0, false
}

// checkSocket judges as much of a socket address as has arrived. Receivers do not read the last 8 bytes (V2
// 2-6.3.6): of devices, which may leave anything there, they are not asked.
func checkSocket(b []byte, d Direction) *MalformedError {
	if byteIsNot(b, 0, 0) || byteIsNot(b, 1, 2) {
		return errSocket
	}
	for i := 8; i < len(b) && d == Request; i++ {
		if b[i] != 0 {
			return errSocket
		}
	}
	return nil
}

func socketOf(b []byte) Socket {
	if len(b) < socketLength {
		return Socket{}
	}
	addr := netip.AddrFrom4([4]byte(b[4:8]))
	return Socket{Address: netip.AddrPortFrom(addr, uint16(b[2])<<8|uint16(b[3])), Given: true}
}
