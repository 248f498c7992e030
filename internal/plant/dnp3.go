package plant

import (
	"fmt"
	"net"
	"time"

	"github.com/penstock-ot/penstock/internal/plant/dnp3"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// StartOutstation serves DNP3 on a host's port, of TCP and UDP, until env's cleanup.
func StartOutstation(env testnet.Env, h *testnet.Host, c dnp3.Config, ports ...int) (*dnp3.Outstation, error) {
	o := dnp3.NewOutstation(c)
	env.Cleanup(o.Close)
	for _, port := range ports {
		address := fmt.Sprintf("%v:%d", h.Address(), port)
		err := h.Do(func() error {
			stream, err := net.Listen("tcp", address)
			if err != nil {
				return err
			}
			go o.Serve(stream)
			datagrams, err := net.ListenPacket("udp", address)
			if err != nil {
				return err
			}
			go o.ServePacket(datagrams)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("start the outstation of %s: %w", h.Label, err)
		}
	}
	return o, nil
}

// DialOutstation connects a master on one host to an outstation on another, by "tcp" or "udp".
func DialOutstation(network string, from, to *testnet.Host, port int, c dnp3.MasterConfig) (*dnp3.Master, error) {
	var conn net.Conn
	err := from.Do(func() (err error) {
		conn, err = net.DialTimeout(network, fmt.Sprintf("%v:%d", to.Address(), port), 5*time.Second)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect %s to %s: %w", from.Label, to.Label, err)
	}
	return dnp3.NewMaster(conn, c), nil
}
