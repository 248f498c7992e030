// Package ethtool switches the parts of a network port that change frames on their way:
// offloads, pause frames and Energy-Efficient Ethernet. It speaks the kernel's generic netlink
// family "ethtool" (Linux 5.7 and later); github.com/mdlayher/ethtool has neither of the three.
package ethtool

import (
	"errors"
	"fmt"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrUnsupported says that the port's driver, or the kernel, does not know the setting.
var ErrUnsupported = errors.New("not supported by the driver or the kernel")

// Client talks to the network namespace of the thread that opened it. It is not safe for
// concurrent use.
type Client struct {
	conn   *genetlink.Conn
	family genetlink.Family
}

// Dial opens a client in the network namespace of the calling thread.
func Dial() (*Client, error) {
	conn, err := genetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open generic netlink: %w", err)
	}
	family, err := conn.GetFamily(unix.ETHTOOL_GENL_NAME)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("find the kernel's ethtool family: %w", err)
	}
	return &Client{conn: conn, family: family}, nil
}

// Close closes the client.
func (c *Client) Close() error { return c.conn.Close() }

// get sends one request about the port and returns the payloads of the answers.
func (c *Client) get(command uint8, port string) ([][]byte, error) {
	// No acknowledgement: it would come after the answer and be taken for the next one.
	return c.call(command, port, netlink.Request, 0, nil)
}

// set sends one change of the port's settings.
func (c *Client) set(command uint8, port string, fill func(*netlink.AttributeEncoder)) error {
	_, err := c.call(command, port, netlink.Request|netlink.Acknowledge, unix.ETHTOOL_FLAG_OMIT_REPLY, fill)
	return err
}

func (c *Client) call(command uint8, port string, how netlink.HeaderFlags, flags uint32,
	fill func(*netlink.AttributeEncoder)) ([][]byte, error) {
	e := netlink.NewAttributeEncoder()
	e.Nested(headerAttribute, func(h *netlink.AttributeEncoder) error {
		h.String(unix.ETHTOOL_A_HEADER_DEV_NAME, port)
		h.Uint32(unix.ETHTOOL_A_HEADER_FLAGS, flags)
		return nil
	})
	if fill != nil {
		fill(e)
	}
	data, err := e.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	msg := genetlink.Message{
		Header: genetlink.Header{Command: command, Version: unix.ETHTOOL_GENL_VERSION},
		Data:   data,
	}
	replies, err := c.conn.Execute(msg, c.family.ID, how)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	payloads := make([][]byte, 0, len(replies))
	for _, r := range replies {
		payloads = append(payloads, r.Data)
	}
	return payloads, nil
}

// headerAttribute names the port; it has the same number in every message of the family.
const headerAttribute = 1
