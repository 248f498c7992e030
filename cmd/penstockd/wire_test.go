package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// wire is both ends of the line, frame by frame: nothing there answers by itself.
type wire struct {
	taps map[policy.Side]*testnet.Tap
}

// layWire starts an appliance between two ends that have no address.
func layWire(t *testing.T, o plant.Options) (*plant.Plant, *wire) {
	t.Helper()
	p := layStopped(t, o)
	w := tapEnds(t, p)
	start(t, p)
	return p, w
}

// tapEnds takes the ends' addresses away and listens there.
func tapEnds(t *testing.T, p *plant.Plant) *wire {
	t.Helper()
	w := &wire{taps: map[policy.Side]*testnet.Tap{}}
	for _, h := range []*testnet.Host{p.Filler, p.HMI} {
		runIn(t, p, h, "ip", "address", "flush", "dev", testnet.HostInterface)
		tap, err := p.Lab.Tap(h, testnet.HostInterface)
		if err != nil {
			t.Fatal(err)
		}
		w.taps[h.Side] = tap
	}
	return w
}

// passes fails the test unless the frame arrives at the other side byte for byte.
func (w *wire) passes(t *testing.T, from policy.Side, b []byte) {
	t.Helper()
	w.passesAs(t, from, b, b)
}

// passesAs fails the test unless want, and nothing else, arrives when b is sent.
func (w *wire) passesAs(t *testing.T, from policy.Side, b, want []byte) {
	t.Helper()
	far := w.taps[from.Other()]
	far.Clear()
	if err := w.taps[from].Send(b); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Await(patience, func([]byte) bool { return true }); err != nil {
		t.Errorf("% x was not forwarded: %v", b, err)
		return
	}
	for _, f := range far.Frames() {
		if !bytes.Equal(f.Data, want) {
			t.Errorf("what arrived is not what was sent\nsent %x\nwant %x\ngot  %x", b, want, f.Data)
		}
	}
}

// sendOne sends a frame. One that finds no room on its own end, on a busy machine, was not sent, and is
// tried again.
func (w *wire) sendOne(from policy.Side, b []byte) error {
	for {
		if err := w.taps[from].Send(b); !errors.Is(err, unix.ENOBUFS) {
			return err
		}
	}
}

// keepUp waits, until stop is closed, while there is more under way than the cables hold, which is 256
// frames each: what a busy machine does not fetch from there in time is lost by the cables.
func (w *wire) keepUp(at policy.Side, sent int, stop <-chan struct{}) {
	const most = 128
	for w.taps[at].Count()+most < sent {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// stops fails the test if any frame arrives at the other side when b is sent.
func (w *wire) stops(t *testing.T, from policy.Side, b []byte) {
	t.Helper()
	far := w.taps[from.Other()]
	far.Clear()
	if err := w.taps[from].Send(b); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	for _, f := range far.Frames() {
		t.Errorf("%x arrived when %x was sent, want nothing", f.Data, b)
	}
}

var (
	hmiMAC    = [6]byte{2, 0, 0, 0, 0, 0x20}
	fillerMAC = [6]byte{2, 0, 0, 0, 0, 0x10}
)

// conversation builds the frames of one TCP connection from hmi-1 (side b) to filler-plc, of IPv4
// or IPv6, under a tag or none.
type conversation struct {
	client, server netip.AddrPort
	tags           []frame.Tag
	seq, ack       uint32 // the client's
	timestamp      uint32
	id             uint16
}

// newConversation begins at sequence numbers that wrap within the first messages.
func newConversation(v6 bool, clientPort, serverPort uint16, tags ...frame.Tag) *conversation {
	client, server := netip.MustParseAddr(testnet.PlantAddress), netip.MustParseAddr(testnet.CellAddress)
	if v6 {
		client, server = netip.MustParseAddr("2001:2::20"), netip.MustParseAddr("2001:2::10")
	}
	return &conversation{
		client: netip.AddrPortFrom(client, clientPort), server: netip.AddrPortFrom(server, serverPort),
		tags: tags, seq: 0xfffffff8, ack: 0xfffffff0,
	}
}

// frame builds a segment from one end and moves the numbers on. Options are what hosts send:
// timestamps on every segment, and on a SYN the rest.
func (c *conversation) frame(t *testing.T, from policy.Side, flags uint8, payload []byte) []byte {
	t.Helper()
	c.timestamp++
	c.id += 7
	options := []byte{1, 1, 8, 10}
	options = binary.BigEndian.AppendUint32(options, c.timestamp)
	options = append(options, 0, 0, 0, 9)
	if flags&frame.FlagSYN != 0 {
		options = append([]byte{2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7, 1, 1}, options[2:]...)
		options = append(options, 1, 1)
	}
	return c.frameWith(t, from, flags, options, payload)
}

func (c *conversation) frameWith(t *testing.T, from policy.Side, flags uint8, options, payload []byte) []byte {
	t.Helper()
	p := frame.TCPPacket{
		Src: c.client, Dst: c.server, Seq: c.seq, Ack: c.ack, Flags: flags,
		Window: 501, Options: options, Payload: payload, TTL: 77, ID: c.id,
	}
	src, dst := hmiMAC, fillerMAC
	next := &c.seq
	if from == policy.SideA {
		p.Src, p.Dst, p.Seq, p.Ack = c.server, c.client, c.ack, c.seq
		src, dst = fillerMAC, hmiMAC
		next = &c.ack
	}
	if flags&frame.FlagACK == 0 {
		p.Ack = 0
	}
	*next += uint32(len(payload))
	if flags&(frame.FlagSYN|frame.FlagFIN) != 0 {
		*next++
	}
	ip, err := frame.AppendTCP(nil, &p)
	if err != nil {
		t.Fatal(err)
	}
	return etherFrame(dst, src, c.tags, serviceClass(ip))
}

// serviceClass marks a packet for expedited forwarding, so that a field that routers change is
// not the default.
func serviceClass(ip []byte) []byte {
	if ip[0]>>4 == 6 {
		binary.BigEndian.PutUint32(ip, 6<<28|0xb8<<20|0xabcde)
		return ip
	}
	ip[1] = 0xb8
	ip[10], ip[11] = 0, 0
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	return ip
}

func etherFrame(dst, src [6]byte, tags []frame.Tag, ip []byte) []byte {
	etherType := uint16(0x0800)
	if ip[0]>>4 == 6 {
		etherType = 0x86dd
	}
	return frame.PrependEthernet(dst, src, tags, etherType, ip)
}

// open takes the conversation through its handshake.
func (c *conversation) open(t *testing.T, w *wire) {
	t.Helper()
	w.passes(t, policy.SideB, c.frame(t, policy.SideB, frame.FlagSYN, nil))
	w.passes(t, policy.SideA, c.frame(t, policy.SideA, frame.FlagSYN|frame.FlagACK, nil))
	w.passes(t, policy.SideB, c.frame(t, policy.SideB, frame.FlagACK, nil))
}

// settle waits until nothing has come to either end for a moment, and returns what had come.
func (w *wire) settle() map[policy.Side][]testnet.Frame {
	const moment = 250 * time.Millisecond
	for last := -1; ; time.Sleep(moment) {
		got, total := map[policy.Side][]testnet.Frame{}, 0
		for side, tap := range w.taps {
			got[side] = tap.Frames()
			total += len(got[side])
		}
		if total == last {
			return got
		}
		last = total
	}
}

// isReset tells a TCP segment that ends a connection of the client's port given, untagged and
// over IPv4.
func isReset(b []byte, port uint16) bool {
	return len(b) >= 54 && b[12] == 8 && b[13] == 0 && b[23] == 6 && b[47]&frame.FlagRST != 0 &&
		(binary.BigEndian.Uint16(b[34:]) == port || binary.BigEndian.Uint16(b[36:]) == port)
}

// ethernet is a frame of some EtherType.
func ethernet(dst string, src [6]byte, tags []frame.Tag, etherType uint16, payload []byte) []byte {
	hw, err := net.ParseMAC(dst)
	if err != nil {
		panic(err)
	}
	return frame.PrependEthernet([6]byte(hw), src, tags, etherType, payload)
}
