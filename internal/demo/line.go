package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/google/nftables"
	"github.com/simonvetter/modbus"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/plant/dnp3"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/settings"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// Ports that devices of the line listen on.
const (
	portModbus    = 502
	portDNP3      = 20000
	portHistorian = 4840
	portUnlisted  = 8080 // something answers there, and no conduit leads to it
)

// historianAddress is one of the network behind plant-router.
const historianAddress = "198.18.64.5"

// patience is how long a peer waits before it takes something for refused: for two repetitions of what a
// busy machine has lost, which come a second and three after it.
const patience = 3500 * time.Millisecond

// line is the filling line: the plant with more devices, and the appliance at work.
type line struct {
	*plant.Plant
	pump     *testnet.Host    // pump-rtu of the policy
	router   *testnet.Host    // plant-router, and the historian behind it
	stranger *testnet.Host    // on the supervision's side; the policy does not know it
	device   *plant.Device    // the filler's registers
	rtu      *dnp3.Outstation // the pump's points
	penstock string           // path of the command
	netns    string           // of the appliance

	taps  map[*testnet.Host]*testnet.Tap
	held  net.Conn             // the historian's connection, which is there all the time
	scada *dnp3.Master         // hmi-1's session with the pump
	open  *modbus.ModbusClient // a Modbus connection likewise, in the outage

	lastEvent uint64
}

// layLine lays everything and starts the appliance.
func layLine(env testnet.Env, o options) (*line, error) {
	text, err := os.ReadFile(o.policy)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	l := &line{taps: make(map[*testnet.Host]*testnet.Tap)}
	daemon, err := l.findPrograms(o.programs)
	if err != nil {
		return nil, err
	}
	lab, err := testnet.Build(env)
	if err != nil {
		return nil, err
	}
	if err := l.addDevices(lab); err != nil {
		return nil, err
	}
	l.Plant, err = plant.New(env, lab, daemon, plant.Options{
		Policy:   string(text),
		Settings: []string{`metrics: ""`, "outage: {heartbeat_timeout: 100ms}", "bypass: {driver: none}"},
	})
	if err != nil {
		return nil, err
	}
	if err := l.startDevices(env); err != nil {
		return nil, err
	}
	s, err := settings.Load(l.Config(), nil)
	if err != nil {
		return nil, err
	}
	l.netns = s.Netns
	return l, l.Start()
}

// findPrograms returns the daemon's path and keeps that of the command.
func (l *line) findPrograms(dir string) (daemon string, err error) {
	for name, path := range map[string]*string{"penstockd": &daemon, "penstock": &l.penstock} {
		if *path, err = filepath.Abs(filepath.Join(dir, name)); err != nil {
			return "", err
		}
		if _, err := os.Stat(*path); err != nil {
			return "", fmt.Errorf("find %s (make build makes it): %w", name, err)
		}
	}
	return daemon, nil
}

func (l *line) addDevices(lab *testnet.Lab) (err error) {
	if l.pump, err = lab.Host(policy.SideA, "pump", "02:00:00:00:00:11", "198.18.0.11"); err != nil {
		return err
	}
	if err := l.addRouter(lab); err != nil {
		return err
	}
	if l.stranger, err = lab.Host(policy.SideB, "stranger", "02:00:00:00:00:66", "198.18.0.66"); err != nil {
		return err
	}
	// It knows the filler's address already, so that what stops it is not the ARP that nobody answers.
	if err := l.stranger.AddNeighbour(lab.Cell); err != nil {
		return err
	}
	for _, h := range []*testnet.Host{lab.Cell, lab.Plant, l.stranger} {
		if l.taps[h], err = lab.Tap(h, testnet.HostInterface); err != nil {
			return err
		}
	}
	return nil
}

// addRouter adds plant-router. The historian's packets come with its MAC address, and it answers for
// the historian itself.
func (l *line) addRouter(lab *testnet.Lab) (err error) {
	l.router, err = lab.Host(policy.SideB, "router", "02:00:00:00:00:01", "198.18.0.1", historianAddress+"/32")
	if err != nil {
		return err
	}
	if err := l.router.AddNeighbour(lab.Cell); err != nil {
		return err
	}
	return lab.Cell.AddRoute(netip.MustParsePrefix("198.18.64.0/18"), l.router.Address())
}

func (l *line) startDevices(env testnet.Env) (err error) {
	if l.device, err = plant.StartDevice(env, l.Filler, portModbus); err != nil {
		return err
	}
	if err := serveEcho(env, l.Filler, portUnlisted); err != nil {
		return err
	}
	if err := serveEcho(env, l.Filler, portHistorian); err != nil {
		return err
	}
	l.rtu, err = plant.StartOutstation(env, l.pump, dnp3.Config{Unsolicited: true}, portDNP3)
	return err
}

// serveEcho sends back whatever comes on a port.
func serveEcho(env testnet.Env, h *testnet.Host, port int) error {
	var listener net.Listener
	err := h.Do(func() (err error) {
		listener, err = net.Listen("tcp", fmt.Sprintf("%v:%d", h.Address(), port))
		return err
	})
	if err != nil {
		return fmt.Errorf("listen on %s: %w", h.Label, err)
	}
	env.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return nil
}

// dial opens a TCP connection from one device to another.
func dial(from, to *testnet.Host, port int) (conn net.Conn, err error) {
	err = from.Do(func() error {
		conn, err = net.DialTimeout("tcp", fmt.Sprintf("%v:%d", to.Address(), port), patience)
		return err
	})
	return conn, err
}

// dialFrom is dial for one of several addresses that a device has.
func dialFrom(address string, from, to *testnet.Host, port int) (conn net.Conn, err error) {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	err = from.Do(func() error {
		conn, err = d.Dial("tcp", fmt.Sprintf("%v:%d", to.Address(), port))
		return err
	})
	return conn, err
}

// flushRules takes every nftables rule out of the appliance's namespace.
func (l *line) flushRules() error {
	ns, err := bridge.OpenNamespace(l.netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		conn.FlushRuleset()
		return conn.Flush()
	})
}
