package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// errNotTCP says that an edit was asked for on something that is not a whole TCP packet.
var errNotTCP = errors.New("edit packet: not a whole, unfragmented TCP packet")

// errNotUDP says the same of a UDP datagram.
var errNotUDP = errors.New("edit packet: not a whole, unfragmented UDP datagram")

// FixTCPChecksum computes the TCP checksum of a whole IP packet anew, in place.
func FixTCPChecksum(ip []byte) error {
	f, tcp, err := tcpOf(ip)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(tcp[16:], 0)
	binary.BigEndian.PutUint16(tcp[16:], ^fold(transportSum(f, tcp)))
	return nil
}

// SetTCPPayload writes other bytes of equal length over a TCP packet's payload, in place, and
// computes its checksum anew. Sequence numbers stay: nothing may ever shift them.
func SetTCPPayload(ip, payload []byte) error {
	f, _, err := tcpOf(ip)
	if err != nil {
		return err
	}
	if len(payload) != len(f.Payload) {
		return fmt.Errorf("edit packet: %d bytes cannot replace a payload of %d", len(payload), len(f.Payload))
	}
	copy(f.Payload, payload)
	return FixTCPChecksum(ip)
}

// SetUDPPayload writes other bytes of equal length over a UDP datagram's payload, in place, and
// computes its checksum anew, also where the sender had left it out (RFC 768).
func SetUDPPayload(ip, payload []byte) error {
	var d Decoder
	var f Frame
	if err := d.IP(ip, &f); err != nil {
		return fmt.Errorf("edit packet: %w", err)
	}
	if !f.IsUDP || f.Fragment || f.Truncated {
		return errNotUDP
	}
	if len(payload) != len(f.Payload) {
		return fmt.Errorf("edit packet: %d bytes cannot replace a payload of %d", len(payload), len(f.Payload))
	}
	copy(f.Payload, payload)
	udp := ip[len(f.IPHeader):][:8+len(payload)]
	binary.BigEndian.PutUint16(udp[6:], 0)
	sum := ^fold(transportSum(&f, udp))
	if sum == 0 {
		sum = 0xffff // 0 says that there is none
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return nil
}

// tcpOf decodes a packet for an edit and returns it with its bytes from the TCP header on.
func tcpOf(ip []byte) (*Frame, []byte, error) {
	var d Decoder
	var f Frame
	if err := d.IP(ip, &f); err != nil {
		return nil, nil, fmt.Errorf("edit packet: %w", err)
	}
	if !f.IsTCP || f.Fragment || f.Truncated {
		return nil, nil, errNotTCP
	}
	return &f, ip[len(f.IPHeader):f.IPLength], nil
}
