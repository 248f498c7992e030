package ethtool

import (
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Pause is what a port does with IEEE 802.3 annex 31B pause frames.
type Pause struct {
	Autonegotiate, Receive, Transmit bool
}

// Pause reads the port's pause setting. The error matches ErrUnsupported where there is none.
func (c *Client) Pause(port string) (Pause, error) {
	var p Pause
	on := map[uint16]*bool{
		unix.ETHTOOL_A_PAUSE_AUTONEG: &p.Autonegotiate,
		unix.ETHTOOL_A_PAUSE_RX:      &p.Receive,
		unix.ETHTOOL_A_PAUSE_TX:      &p.Transmit,
	}
	if err := c.switches(unix.ETHTOOL_MSG_PAUSE_GET, port, on); err != nil {
		return Pause{}, fmt.Errorf("read pause setting of port %s: %w", port, err)
	}
	return p, nil
}

// SetPause changes the port's pause setting.
func (c *Client) SetPause(port string, p Pause) error {
	err := c.set(unix.ETHTOOL_MSG_PAUSE_SET, port, func(e *netlink.AttributeEncoder) {
		e.Uint8(unix.ETHTOOL_A_PAUSE_AUTONEG, octet(p.Autonegotiate))
		e.Uint8(unix.ETHTOOL_A_PAUSE_RX, octet(p.Receive))
		e.Uint8(unix.ETHTOOL_A_PAUSE_TX, octet(p.Transmit))
	})
	if err != nil {
		return fmt.Errorf("set pause of port %s: %w", port, err)
	}
	return nil
}

// EEE reports whether Energy-Efficient Ethernet (IEEE 802.3az) is enabled: a sleeping link adds
// its waking time to the first frame. The error matches ErrUnsupported where there is none.
func (c *Client) EEE(port string) (bool, error) {
	var enabled bool
	err := c.switches(unix.ETHTOOL_MSG_EEE_GET, port, map[uint16]*bool{unix.ETHTOOL_A_EEE_ENABLED: &enabled})
	if err != nil {
		return false, fmt.Errorf("read Energy-Efficient Ethernet of port %s: %w", port, err)
	}
	return enabled, nil
}

// SetEEE switches Energy-Efficient Ethernet.
func (c *Client) SetEEE(port string, on bool) error {
	err := c.set(unix.ETHTOOL_MSG_EEE_SET, port, func(e *netlink.AttributeEncoder) {
		e.Uint8(unix.ETHTOOL_A_EEE_ENABLED, octet(on))
	})
	if err != nil {
		return fmt.Errorf("set Energy-Efficient Ethernet of port %s: %w", port, err)
	}
	return nil
}

// switches asks for a message whose one-octet attributes are on or off.
func (c *Client) switches(command uint8, port string, into map[uint16]*bool) error {
	replies, err := c.get(command, port)
	if err != nil {
		return err
	}
	for _, r := range replies {
		d, err := netlink.NewAttributeDecoder(r)
		if err != nil {
			return err
		}
		for d.Next() {
			if on := into[d.Type()]; on != nil {
				*on = d.Uint8() != 0
			}
		}
		if err := d.Err(); err != nil {
			return err
		}
	}
	return nil
}

func octet(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}
