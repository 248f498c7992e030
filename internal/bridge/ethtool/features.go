package ethtool

import (
	"fmt"
	"sort"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Features are a port's offloads by the kernel's names, such as "rx-gro" or "tx-vlan-hw-insert"
// (`ethtool -k` shows friendlier ones for some).
type Features struct {
	Changeable map[string]bool // the driver lets them be switched
	Wanted     map[string]bool // switched on, though another feature may hold it off
	Active     map[string]bool // in force
}

// Features reads the port's offloads.
func (c *Client) Features(port string) (Features, error) {
	replies, err := c.get(unix.ETHTOOL_MSG_FEATURES_GET, port)
	if err != nil {
		return Features{}, fmt.Errorf("read offloads of port %s: %w", port, err)
	}
	var f Features
	for _, r := range replies {
		if err := f.decode(r); err != nil {
			return Features{}, fmt.Errorf("read offloads of port %s: %w", port, err)
		}
	}
	return f, nil
}

// SetFeatures switches the offloads named. Names that the kernel does not know are an error;
// what the driver cannot change stays as it was, without an error: read Features back.
func (c *Client) SetFeatures(port string, want map[string]bool) error {
	names := make([]string, 0, len(want))
	for name := range want {
		names = append(names, name)
	}
	sort.Strings(names)
	err := c.set(unix.ETHTOOL_MSG_FEATURES_SET, port, func(e *netlink.AttributeEncoder) {
		e.Nested(unix.ETHTOOL_A_FEATURES_WANTED, func(set *netlink.AttributeEncoder) error {
			set.Nested(unix.ETHTOOL_A_BITSET_BITS, func(bits *netlink.AttributeEncoder) error {
				for _, name := range names {
					bits.Nested(unix.ETHTOOL_A_BITSET_BITS_BIT, encodeBit(name, want[name]))
				}
				return nil
			})
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("set offloads of port %s: %w", port, err)
	}
	return nil
}

func encodeBit(name string, on bool) func(*netlink.AttributeEncoder) error {
	return func(bit *netlink.AttributeEncoder) error {
		bit.String(unix.ETHTOOL_A_BITSET_BIT_NAME, name)
		bit.Flag(unix.ETHTOOL_A_BITSET_BIT_VALUE, on)
		return nil
	}
}

func (f *Features) decode(b []byte) error {
	d, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	for d.Next() {
		switch d.Type() {
		case unix.ETHTOOL_A_FEATURES_HW:
			f.Changeable = make(map[string]bool)
			d.Nested(decodeBitset(f.Changeable))
		case unix.ETHTOOL_A_FEATURES_WANTED:
			f.Wanted = make(map[string]bool)
			d.Nested(decodeBitset(f.Wanted))
		case unix.ETHTOOL_A_FEATURES_ACTIVE:
			f.Active = make(map[string]bool)
			d.Nested(decodeBitset(f.Active))
		}
	}
	return d.Err()
}

// decodeBitset reads a bitset in its verbose form, in which a bit that is listed is either in
// the mask or, where there is none, set.
func decodeBitset(into map[string]bool) func(*netlink.AttributeDecoder) error {
	return func(set *netlink.AttributeDecoder) error {
		noMask := false
		for set.Next() {
			switch set.Type() {
			case unix.ETHTOOL_A_BITSET_NOMASK:
				noMask = true
			case unix.ETHTOOL_A_BITSET_BITS:
				set.Nested(func(bits *netlink.AttributeDecoder) error {
					for bits.Next() {
						bits.Nested(decodeBit(into, noMask))
					}
					return bits.Err()
				})
			}
		}
		return set.Err()
	}
}

func decodeBit(into map[string]bool, noMask bool) func(*netlink.AttributeDecoder) error {
	return func(bit *netlink.AttributeDecoder) error {
		name, on := "", noMask
		for bit.Next() {
			switch bit.Type() {
			case unix.ETHTOOL_A_BITSET_BIT_NAME:
				name = bit.String()
			case unix.ETHTOOL_A_BITSET_BIT_VALUE:
				on = true
			}
		}
		if on {
			into[name] = true
		}
		return bit.Err()
	}
}
