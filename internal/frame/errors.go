package frame

import "errors"

// The ways in which decoding stops. They are values and not built anew for each frame, so that
// a flood of bad frames costs no memory. What was decoded before the error stands in the Frame.
var (
	// ErrTruncated says that a header is not whole.
	ErrTruncated = errors.New("decode frame: a header is cut short")
	// ErrVersion says that an IP packet's version is not what its EtherType promises.
	ErrVersion = errors.New("decode frame: the IP version is neither 4 nor 6, or not the EtherType's")
	// ErrIPHeader says that an IP header contradicts itself.
	ErrIPHeader = errors.New("decode frame: the IP header's lengths contradict each other")
	// ErrTransportHeader says that a TCP or UDP header contradicts itself or the packet.
	ErrTransportHeader = errors.New("decode frame: the TCP or UDP header's length contradicts the packet")
	// ErrARP says that an ARP packet is not Ethernet and IPv4.
	ErrARP = errors.New("decode frame: the ARP packet is not for Ethernet and IPv4")
	// ErrTags says that a frame carries more than MaxTags tags.
	ErrTags = errors.New("decode frame: too many VLAN tags")
)
