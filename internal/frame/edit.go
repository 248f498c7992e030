package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// errNotTCP says that an edit was asked for on something that is not a whole TCP packet.
var errNotTCP = errors.New("edit packet: not a whole, unfragmented TCP packet")

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

// TCP option kinds.
const (
	OptionEnd           = 0
	OptionNOP           = 1
	OptionMSS           = 2
	OptionWindowScale   = 3
	OptionSACKPermitted = 4
	OptionSACK          = 5
	OptionTimestamps    = 8
	OptionMD5           = 19
	OptionMultipath     = 30
	OptionFastOpen      = 34
)

// MaskTCPOptions overwrites with NOP, in place and at equal length, every TCP option that
// permitted does not name, and then computes the checksum anew. From an option that cannot be
// read onwards everything is overwritten: a receiver might read it otherwise. It reports
// whether a byte changed.
func MaskTCPOptions(ip []byte, permitted func(kind uint8) bool) (changed bool, err error) {
	f, _, err := tcpOf(ip)
	if err != nil {
		return false, err
	}
	options := f.TCP.Options
	for len(options) > 0 {
		kind := options[0]
		if kind == OptionEnd {
			break
		}
		if kind == OptionNOP {
			options = options[1:]
			continue
		}
		length := len(options)
		whole := len(options) >= 2 && int(options[1]) >= 2 && int(options[1]) <= len(options)
		if whole {
			length = int(options[1])
		}
		if !whole || !permitted(kind) {
			for i := range options[:length] {
				options[i] = OptionNOP
			}
			changed = true
		}
		options = options[length:]
	}
	if !changed {
		return false, nil
	}
	return true, FixTCPChecksum(ip)
}
