package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// cipConduit permits a little of everything, so that each line of the list has something beside it that passes.
const cipConduit = `name: cip
from: [hmi-1]
to: [filler-plc]
protocol: enip
ports: [tcp/44818, udp/44818, udp/2222]
on_deny: reset
rules:
  - {services: [get_attributes_all, get_attribute_single], classes: [identity, 0x04]}
  - {services: [read_tag, read_tag_fragmented], tags: ["Line3.*"]}
  - {services: [write_tag, write_tag_fragmented], tags: [Line3.Setpoint, "A[3]"], values: [0-1500]}
  - {services: [write_tag], tags: [Batch], route: ["1/0"]}
  - {services: [unconnected_send, forward_open, large_forward_open, forward_close], route: ["1/0"], io: {assemblies: [100, 150, 151], owners: [exclusive_owner]}}
  - {services: [execute_pccc], pccc: {functions: [protected_typed_logical_read], files: ["N7:0-9"]}}
  - {commands: [list_identity]}`

// cipDevice is a device that answers whatever it gets with success, and keeps every byte of it.
type cipDevice struct {
	mu  sync.Mutex
	got map[string][]byte // by who sent it
	ids uint32
}

func startCIPDevice(t *testing.T, h *testnet.Host) *cipDevice {
	t.Helper()
	d := &cipDevice{ids: 0x70000, got: map[string][]byte{}}
	var listener net.Listener
	if err := h.Do(func() (err error) {
		listener, err = net.Listen("tcp4", fmt.Sprintf("%v:44818", h.Address()))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go d.serve(conn)
		}
	}()
	return d
}

func (d *cipDevice) serve(conn net.Conn) {
	defer conn.Close()
	var pending []byte
	opened := map[uint32]uint32{}
	b, sender := make([]byte, 4096), conn.RemoteAddr().String()
	for {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		d.mu.Lock()
		d.got[sender] = append(d.got[sender], b[:n]...)
		d.mu.Unlock()
		pending = append(pending, b[:n]...)
		for len(pending) >= 24 && len(pending) >= 24+int(binary.LittleEndian.Uint16(pending[2:])) {
			size := 24 + int(binary.LittleEndian.Uint16(pending[2:]))
			if _, err := conn.Write(d.answer(pending[:size], opened)); err != nil {
				return
			}
			pending = pending[size:]
		}
	}
}

// answer replies to a message. The session is the same for all.
func (d *cipDevice) answer(b []byte, opened map[uint32]uint32) []byte {
	context := binary.LittleEndian.Uint64(b[12:])
	switch command := binary.LittleEndian.Uint16(b); {
	case command == 0x65:
		return ct.Register(cipSession)
	case command == 0x6f && len(b) > 42:
		return ct.RR(cipSession, context, d.execute(b[40:], opened))
	case command == 0x70 && len(b) > 48:
		id := binary.LittleEndian.Uint32(b[36:])
		return ct.Unit(cipSession, opened[id], binary.LittleEndian.Uint16(b[44:]), d.execute(b[46:], opened))
	}
	return nil
}

const cipSession = 0x01020304

func (d *cipDevice) execute(service []byte, opened map[uint32]uint32) []byte {
	manager := bytes.HasPrefix(service[2:], ct.Manager())
	switch code := service[0]; {
	case manager && code == 0x52:
		return d.execute(service[10:], opened)
	case manager && (code == 0x54 || code == 0x5b):
		data := service[6:]
		d.mu.Lock()
		defer d.mu.Unlock()
		d.ids++
		opened[d.ids] = binary.LittleEndian.Uint32(data[6:])
		return ct.Opened(ct.Open{Serial: binary.LittleEndian.Uint16(data[10:]), Large: code == 0x5b}, d.ids, opened[d.ids])
	case code == 0x4c || code == 0x52:
		return []byte{code | 0x80, 0, 0, 0, 0xc4, 0, 1, 0, 0, 0}
	default:
		return []byte{code | 0x80, 0, 0, 0}
	}
}

// from returns what a client has sent to the device, as far as it has arrived.
func (d *cipDevice) from(c *cipClient) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.got[c.conn.LocalAddr().String()])
}

// cipClient is a client with a registered session.
type cipClient struct {
	t    *testing.T
	conn *net.TCPConn
}

func registerAt(t *testing.T, p *plant.Plant) *cipClient {
	t.Helper()
	c := &cipClient{t, socketTo(t, p.HMI, p.Filler, 44818)}
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c.ask(ct.Register(0))
	return c
}

// ask sends a message and returns its reply.
func (c *cipClient) ask(message []byte) []byte {
	c.t.Helper()
	reply, err := c.try(message)
	if err != nil {
		c.t.Fatalf("% x: %v", message, err)
	}
	return reply
}

func (c *cipClient) try(message []byte) ([]byte, error) {
	if _, err := c.conn.Write(message); err != nil {
		return nil, err
	}
	head := make([]byte, 24)
	if _, err := io.ReadFull(c.conn, head); err != nil {
		return nil, err
	}
	rest := make([]byte, binary.LittleEndian.Uint16(head[2:]))
	_, err := io.ReadFull(c.conn, rest)
	return append(head, rest...), err
}

// open opens a connection and returns its identifier.
func (c *cipClient) open(o ct.Open) uint32 {
	c.t.Helper()
	return binary.LittleEndian.Uint32(c.ask(ct.RR(cipSession, 1, o.Forward()))[44:])
}

// TestEvasions25To32AndOf39OnTheLine goes through the list of what an enforcing parser of EtherNet/IP must survive,
// through the whole appliance: of no denied message does the last byte reach the device, the connection that it
// came on ends, and another client of the same device does not notice.
func TestEvasions25To32AndOf39OnTheLine(t *testing.T) {
	p := lay(t, plant.Options{Policy: site{conduits: []string{cipConduit}}.String()})
	device := startCIPDevice(t, p.Filler)
	read := ct.ReadTag(ct.Symbol("Line3.Speed"), 1)
	write, reset := ct.WriteDINT(ct.Symbol("Recipe"), 9), ct.Request(0x05, ct.Join(ct.Class(1), ct.Instance(1)))
	batch := ct.WriteDINT(ct.Symbol("Batch"), 9)
	route, router := ct.Port(1, 0), ct.Join(ct.Port(1, 0), ct.Router())
	rr := func(service []byte, more ...[]byte) []byte { return ct.RR(cipSession, 1, service, more...) }
	items := func(list ...[]byte) []byte { return ct.Encapsulate(0x6f, cipSession, 1, ct.Items(list...)) }
	null := ct.Item(0, nil)
	changed := func(at int, to byte, b []byte) []byte {
		b = bytes.Clone(b)
		b[at] = to
		return b
	}
	packet := func(count uint16, offsets ...uint16) []byte {
		b := ct.U16(count)
		for _, o := range offsets {
			b = append(b, ct.U16(o)...)
		}
		return rr(ct.Request(0x0a, ct.Router(), b, read, read))
	}
	deep := reset
	for range 5 {
		deep = ct.Multiple(deep)
	}
	n := uint16(len(read))
	scan := func(points ...uint32) []byte {
		b := ct.Join(route, ct.Class(4), ct.Instance(151))
		for _, v := range points {
			b = append(b, ct.Point(v)...)
		}
		return b
	}
	socket := func(kind, port uint16, last byte) []byte {
		return rr(ct.Open{Class: 1, Size: 100, Path: scan(150, 100)}.Forward(), ct.Item(kind, ct.Socket(port, 198, 18, 0, last)))
	}
	pccc := func(command ...byte) []byte {
		return rr(ct.Request(0x4b, ct.Join(ct.Class(0x67), ct.Instance(1)), []byte{7, 0x4d, 0, 1, 2, 3, 4}, command))
	}

	polite, stop := registerAt(t, p), make(chan struct{})
	var polls sync.WaitGroup
	polls.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			if err := polite.conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Error(err)
			}
			if _, err := polite.try(rr(read)); err != nil {
				t.Errorf("another client's read: %v", err)
				return
			}
		}
	})
	defer func() { close(stop); polls.Wait() }()

	for _, r := range []struct {
		name  string
		build func(c *cipClient) []byte
		cut   int // bytes a segment; 0: all in one
	}{
		{"25 one byte a segment", func(*cipClient) []byte { return rr(write) }, 1},
		{"25 split in the header", func(*cipClient) []byte { return rr(reset) }, 11},
		{"25 split in the body", func(*cipClient) []byte { return rr(ct.Unconnected(write, route)) }, 43},
		{"26 in a send", func(*cipClient) []byte { return rr(ct.Unconnected(reset, route)) }, 0},
		{"26 in a packet", func(*cipClient) []byte { return rr(ct.Multiple(read, reset)) }, 0},
		{"26 in a packet in a send", func(*cipClient) []byte { return rr(ct.Unconnected(ct.Multiple(read, reset), route)) }, 0},
		{"26 in a send in a packet", func(*cipClient) []byte { return rr(ct.Multiple(read, ct.Unconnected(reset, route))) }, 0},
		{"26 too deep", func(*cipClient) []byte { return rr(deep) }, 0},
		{"26 offsets that overlap", func(*cipClient) []byte { return packet(2, 6, 6) }, 0},
		{"26 offsets that decrease", func(*cipClient) []byte { return packet(2, 6+n, 6) }, 0},
		{"26 offsets that leave the packet", func(*cipClient) []byte { return packet(2, 6, 7+2*n) }, 0},
		{"26 a count over 255", func(*cipClient) []byte { return packet(256, 6, 6+n) }, 0},
		{"27 an extra item", func(*cipClient) []byte { return items(null, ct.Item(0xb2, read), ct.Item(0x99, write)) }, 0},
		{"27 an item twice", func(*cipClient) []byte { return items(null, ct.Item(0xb2, read), ct.Item(0xb2, write)) }, 0},
		{"27 items in another order", func(*cipClient) []byte { return items(ct.Item(0xb2, read), null) }, 0},
		{"27 more than four items", func(*cipClient) []byte { return items(null, ct.Item(0xb2, read), null, null, ct.Item(0xb2, write)) }, 0},
		{"27 an interface handle", func(*cipClient) []byte { return changed(24, 1, rr(read)) }, 0},
		{"28 a class of 16 bits", func(*cipClient) []byte { return rr(ct.Request(0x05, ct.Join(ct.Logical(0x20, 1, 1), ct.Instance(1)))) }, 0},
		{"28 an instance of 32 bits", func(*cipClient) []byte { return rr(ct.Request(0x05, ct.Join(ct.Class(1), ct.Logical(0x24, 1, 2)))) }, 0},
		{"28 a key first", func(*cipClient) []byte { return rr(ct.Request(0x05, ct.Join(ct.Key(), ct.Class(1), ct.Instance(1)))) }, 0},
		{"28 a port first", func(*cipClient) []byte { return rr(ct.Request(0x05, ct.Join(route, ct.Class(1), ct.Instance(1)))) }, 0},
		{"28 a short symbol", func(*cipClient) []byte { return rr(ct.WriteDINT(ct.ShortSymbol("rECIPE"), 9)) }, 0},
		{"28 an element by a member", func(*cipClient) []byte { return rr(ct.WriteDINT(ct.Join(ct.Symbol("A"), ct.Logical(0x28, 4, 1)), 9)) }, 0},
		{"28 a data segment", func(*cipClient) []byte {
			return rr(ct.Request(0x05, ct.Join(ct.Class(1), ct.Instance(1), []byte{0x80, 1, 1, 0})))
		}, 0},
		{"28 not padded", func(*cipClient) []byte { return rr(ct.Request(0x05, []byte{0x21, 1, 0, 0x25, 1, 0})) }, 0},
		{"29 a connection that nobody knows", func(*cipClient) []byte { return ct.Unit(cipSession, 77, 1, read) }, 0},
		{"29 a connection", func(c *cipClient) []byte {
			return ct.Unit(cipSession, c.open(ct.Open{Serial: 1, ToSource: 5, Path: router}), 1, write)
		}, 0},
		{"29 a large connection", func(c *cipClient) []byte {
			return ct.Unit(cipSession, c.open(ct.Open{Large: true, Serial: 1, ToSource: 5, Path: router}), 1, ct.Multiple(read, reset))
		}, 0},
		{"29 the other direction's identifier", func(c *cipClient) []byte {
			c.open(ct.Open{Serial: 1, ToSource: 5, Path: router})
			return ct.Unit(cipSession, 5, 1, read)
		}, 0},
		{"29 a closed connection", func(c *cipClient) []byte {
			id := c.open(ct.Open{Serial: 1, ToSource: 5, Path: router})
			c.ask(ct.Unit(cipSession, id, 1, read))
			c.ask(rr(ct.Close(1, router)))
			return ct.Unit(cipSession, id, 2, read)
		}, 0},
		{"29 a null forward open", func(c *cipClient) []byte {
			return ct.Unit(cipSession, c.open(ct.Open{Serial: 1, Types: [2]byte{ct.Null, ct.Null}, Path: router}), 1, read)
		}, 0},
		{"29 a redundant owner", func(*cipClient) []byte {
			return rr(ct.Open{Class: 1, Size: 100, Owner: true, Path: scan(150, 100)}.Forward())
		}, 0},
		{"29 a connection to more than the router", func(*cipClient) []byte {
			return rr(ct.Open{Path: ct.Join(router, ct.Class(0x67), ct.Instance(1))}.Forward())
		}, 0},
		{"28 a point beside the instance", func(*cipClient) []byte {
			return rr(ct.Request(0x0e, ct.Join(ct.Class(4), ct.Instance(100), ct.Point(1), ct.Attribute(3))))
		}, 0},
		{"29 data ahead of the reply to a close", func(c *cipClient) []byte {
			id := c.open(ct.Open{Serial: 1, ToSource: 5, Path: router})
			return ct.Join(rr(ct.Close(1, router)), rr(ct.Open{Serial: 2, ToSource: 6}.Forward()), ct.Unit(cipSession, id, 1, batch))
		}, 0},
		{"29 a close behind what is kept", func(*cipClient) []byte {
			return rr(ct.Multiple(append(slices.Repeat([][]byte{read}, 40), ct.Close(1, router))...))
		}, 0},
		{"30 another slot", func(*cipClient) []byte { return rr(ct.Unconnected(read, ct.Port(1, 3))) }, 0},
		{"30 one hop more", func(*cipClient) []byte { return rr(ct.Unconnected(read, route, ct.PortText(2, "198.18.0.9"))) }, 0},
		{"30 a connection to another slot", func(*cipClient) []byte { return rr(ct.Open{Path: ct.Join(ct.Port(1, 3), ct.Router())}.Forward()) }, 0},
		{"30 a send on a connection", func(c *cipClient) []byte {
			return ct.Unit(cipSession, c.open(ct.Open{Serial: 1, ToSource: 5, Path: router}), 1, ct.Unconnected(read, route))
		}, 0},
		{"31 PCCC's change of mode", func(*cipClient) []byte { return pccc(0x0f, 0, 1, 0, 0x80, 6) }, 0},
		{"31 another file", func(*cipClient) []byte { return pccc(0x0f, 0, 1, 0, 0xa2, 2, 8, 0x89, 3, 0) }, 0},
		{"31 another command", func(*cipClient) []byte { return pccc(0x08, 0, 1, 0, 0, 0, 1, 2) }, 0},
		{"31 a string where whole numbers are", func(*cipClient) []byte { return pccc(0x0f, 0, 1, 0, 0xa2, 84, 7, 0x8d, 0, 0) }, 0},
		{"31 another requestor", func(*cipClient) []byte { return changed(46, 5, pccc(0x0f, 0, 1, 0, 0xa2, 2, 7, 0x89, 3, 0)) }, 0},
		{"31 a fragmented write of another value", func(*cipClient) []byte {
			return rr(ct.Request(0x53, ct.Symbol("Line3.Setpoint"), ct.U16(0xc4), ct.U16(1), ct.U32(0), ct.U32(1501)))
		}, 0},
		{"31 0x52 to the connection manager", func(*cipClient) []byte { return rr(ct.Unconnected(ct.ReadTag(ct.Symbol("Recipe"), 1), route)) }, 0},
		{"32 a nop", func(*cipClient) []byte { return ct.Encapsulate(0, 0, 1, rr(write)) }, 0},
		{"32 list services", func(*cipClient) []byte { return ct.Encapsulate(4, 0, 1, nil) }, 0},
		{"32 list interfaces", func(*cipClient) []byte { return ct.Encapsulate(0x64, 0, 1, nil) }, 0},
		{"32 legacy 1", func(*cipClient) []byte { return ct.Encapsulate(1, cipSession, 1, write) }, 0},
		{"32 legacy 2", func(*cipClient) []byte { return ct.Encapsulate(2, cipSession, 1, write) }, 0},
		{"32 legacy 3", func(*cipClient) []byte { return ct.Encapsulate(3, cipSession, 1, write) }, 0},
		{"32 another session", func(*cipClient) []byte { return ct.RR(cipSession^1, 1, read) }, 0},
		{"39 a socket address of a third host", func(*cipClient) []byte { return socket(0x8001, 2222, 99) }, 0},
		{"39 a socket address with another port", func(*cipClient) []byte { return socket(0x8001, 502, 20) }, 0},
	} {
		t.Run(r.name, func(t *testing.T) {
			c := registerAt(t, p)
			message := r.build(c)
			before := len(device.from(c))
			cut := r.cut
			if cut == 0 {
				cut = len(message)
			}
			for from := 0; from < len(message); from += cut {
				if _, err := c.conn.Write(message[from:min(from+cut, len(message))]); err != nil {
					break // ended already
				}
				time.Sleep(time.Millisecond)
			}
			if n, err := c.conn.Read(make([]byte, 512)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%d bytes, %v: the connection goes on", n, err)
			}
			if arrived := device.from(c)[before:]; len(arrived) >= len(message) {
				t.Errorf("it has arrived: % x", arrived)
			}
		})
	}
	// The same on a connection of its own passes, in another spelling each.
	c := registerAt(t, p)
	id := c.open(ct.Open{Serial: 3, ToSource: 6, Path: router})
	for name, message := range map[string][]byte{
		"a list of identities":            ct.Encapsulate(0x63, 0, 1, nil),
		"a read in a packet in a send":    rr(ct.Unconnected(ct.Multiple(read, read), route)),
		"an element in another spelling":  rr(ct.WriteDINT(ct.Join(ct.ShortSymbol("a"), ct.Logical(0x28, 3, 2)), 9)),
		"a write by its connection's way": ct.Unit(cipSession, id, 1, batch),
		"a write of what may be set":      ct.Unit(cipSession, id, 1, ct.WriteDINT(ct.Symbol("Line3.Setpoint"), 9)),
		"a read of a file that is named":  pccc(0x0f, 0, 1, 0, 0xa2, 2, 7, 0x89, 3, 0),
		"an attribute by 16 and 32 bits":  rr(ct.Request(0x0e, ct.Join(ct.Key(), ct.Logical(0x20, 1, 1), ct.Logical(0x24, 1, 2), ct.Attribute(7)))),
		"a fragmented write of the range": rr(ct.Request(0x53, ct.Symbol("Line3.Setpoint"), ct.U16(0xc4), ct.U16(1), ct.U32(0), ct.U32(1500))),
	} {
		before := len(device.from(c))
		if _, err := c.conn.Write(message); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		eventually(t, name, func() bool { return bytes.Equal(device.from(c)[before:], message) })
	}
}

// TestEvasion32_UDPOnTheLine: over UDP 44818 there is discovery and nothing else, and UDP 2222 is for I/O: a service in
// a datagram to either does not reach the device.
func TestEvasion32_UDPOnTheLine(t *testing.T) {
	p := lay(t, plant.Options{Policy: site{conduits: []string{cipConduit}}.String(), Settings: []string{longHeartbeat}})
	const secret = "Recipe"
	service := ct.RR(cipSession, 1, ct.WriteDINT(ct.Symbol(secret), 9))
	list := func(context uint64) []byte { return ct.Encapsulate(0x63, 0, context, nil) }
	listen := func(h *testnet.Host, port uint16) *net.UDPConn {
		t.Helper()
		var conn *net.UDPConn
		if err := h.Do(func() (err error) {
			conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.Address(), port)))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	var mu sync.Mutex
	var got [][]byte
	for _, port := range []uint16{44818, 2222} {
		conn := listen(p.Filler, port)
		go func() {
			b := make([]byte, 2048)
			for {
				n, err := conn.Read(b)
				if err != nil {
					return
				}
				mu.Lock()
				got = append(got, bytes.Clone(b[:n]))
				mu.Unlock()
			}
		}()
	}
	client := listen(p.HMI, 0)
	send := func(port uint16, b []byte) {
		t.Helper()
		if _, err := client.WriteToUDPAddrPort(b, netip.AddrPortFrom(p.Filler.Address(), port)); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range [][]byte{
		service, ct.Register(0), ct.Join(list(1), service), ct.Encapsulate(0, 0, 1, service), ct.Encapsulate(4, 0, 1, nil),
		ct.Encapsulate(0x70, cipSession, 1, service[24:]), list(1)[:20], ct.Encapsulate(0x63, 0, 1, []byte(secret)),
	} {
		send(44818, b)
		send(2222, b)
	}
	send(44818, list(2))
	eventually(t, "the one that is permitted", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) > 0 && bytes.Equal(got[len(got)-1], list(2))
	})
	mu.Lock()
	defer mu.Unlock()
	for _, b := range got[:len(got)-1] {
		t.Errorf("%d bytes have arrived: % x", len(b), b)
	}
	if len(got) > 1 || strings.Contains(string(got[0]), secret) {
		t.Error("a service has arrived")
	}
}
