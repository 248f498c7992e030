package queue

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"testing"
	"time"
)

// fakeKernel is the other end of the socket: it holds packets, delivers scripted datagrams and
// acts on verdicts as nfnetlink_queue does.
type fakeKernel struct {
	t        testing.TB
	waiting  []uint32 // ids in the order they were queued
	turns    [][][]byte
	errors   map[int]error // what receive returns in a turn beside its datagrams
	verdicts map[uint32][]string
	refuse   map[uint32]syscall.Errno // single verdicts that the kernel will not act on
	failing  int                      // how many sends fail from now on
	sends    int
	turn     int
	current  [][]byte
	replies  [][]byte
	done     func()
	told     int // packets that the loop says it has answered
}

func newFakeKernel(t testing.TB) *fakeKernel {
	return &fakeKernel{t: t, verdicts: map[uint32][]string{}, errors: map[int]error{}}
}

// receive delivers the next turn with what the last sends gave rise to, then idles once, and
// ends the loop.
func (k *fakeKernel) receive() (int, error) {
	k.current, k.replies = k.replies, nil
	turn := k.turn
	k.turn++
	if turn < len(k.turns) {
		k.current = append(k.current, k.turns[turn]...)
	}
	if turn > len(k.turns) && len(k.current) == 0 {
		k.done()
	}
	return len(k.current), k.errors[turn]
}

func (k *fakeKernel) drained() bool { return len(k.current) < batch }

func (k *fakeKernel) datagram(i int) []byte { return k.current[i] }

func (k *fakeKernel) send(messages []byte) error {
	k.sends++
	if k.failing > 0 {
		k.failing--
		return syscall.ENOBUFS
	}
	for len(messages) > 0 {
		m, rest, whole := nextMessage(messages)
		if !whole {
			k.t.Fatalf("sent a broken message: % x", messages)
		}
		messages = rest
		k.act(m)
	}
	return nil
}

// act carries out one verdict message.
func (k *fakeKernel) act(m netlinkMessage) {
	kind, value, rest, ok := nextAttribute(m.body[netfilterHeaderLength:])
	if !ok || kind != attributeVerdict || len(value) != 8 {
		k.t.Fatalf("sent a message without a verdict: % x", m.body)
	}
	verdict, id := binary.BigEndian.Uint32(value), binary.BigEndian.Uint32(value[4:])
	text := map[uint32]string{verdictDrop: "drop", verdictAccept: "accept"}[verdict]
	for len(rest) > 0 {
		var a uint16
		if a, value, rest, ok = nextAttribute(rest); !ok {
			k.t.Fatalf("sent a broken attribute")
		}
		switch a {
		case attributeMark:
			text += fmt.Sprintf(" mark %#x", binary.BigEndian.Uint32(value))
		case attributePayload:
			text += fmt.Sprintf(" edit %d", len(value))
		}
	}
	if m.kind == messageVerdictBatch {
		k.settle(func(waiting uint32) bool { return int32(waiting-id) <= 0 }, "batch "+text, m)
		return
	}
	if errno, ok := k.refuse[id]; ok {
		delete(k.refuse, id)
		k.replies = append(k.replies, errorMessage(errno, m))
		return
	}
	k.settle(func(waiting uint32) bool { return waiting == id }, text, m)
}

// settle gives a verdict to the waiting packets that match, or replies that there is none.
func (k *fakeKernel) settle(match func(uint32) bool, text string, m netlinkMessage) {
	found := false
	k.waiting = slices.DeleteFunc(k.waiting, func(id uint32) bool {
		if !match(id) {
			return false
		}
		k.verdicts[id] = append(k.verdicts[id], text)
		found = true
		return true
	})
	if !found {
		k.replies = append(k.replies, errorMessage(syscall.ENOENT, m))
	}
}

// errorMessage is what the kernel sends back for a message, with NETLINK_CAP_ACK.
func errorMessage(errno syscall.Errno, m netlinkMessage) []byte {
	b := make([]byte, 0, 36)
	b = binary.NativeEndian.AppendUint32(b, 36)
	b = binary.NativeEndian.AppendUint16(b, netlinkError)
	b = append(b, make([]byte, 10)...)
	b = binary.NativeEndian.AppendUint32(b, -uint32(errno))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(m.body)+netlinkHeaderLength))
	b = binary.NativeEndian.AppendUint16(b, m.kind)
	b = append(b, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, m.sequence)
	return append(b, 0, 0, 0, 0)
}

// newTestLoop is a loop that talks to k and ends when k has nothing more to say.
func newTestLoop(k *fakeKernel, handle Handler) *loop {
	stop := make(chan struct{})
	k.done = func() { close(stop); k.done = func() {} }
	c := Config{Number: 100, Beat: func(time.Time) {}, Log: slog.New(slog.DiscardHandler)}
	c.Answered = func(packets int, _ bool, _ time.Time) { k.told += packets }
	return newLoop(c, k, new(counters), handle, stop)
}

// attr is one attribute of a message under construction.
type attr struct {
	kind  uint16
	value []byte
}

func header(id uint32) attr {
	v := binary.BigEndian.AppendUint32(nil, id)
	return attr{attributePacketHeader, append(v, 0x08, 0x00, 2)}
}

func number(kind uint16, v uint32) attr {
	return attr{kind, binary.BigEndian.AppendUint32(nil, v)}
}

func payload(n int) attr {
	b := make([]byte, n)
	if n > 0 {
		b[0] = 0x45
	}
	return attr{attributePayload, b}
}

func attributes(list ...attr) []byte {
	var b []byte
	for _, a := range list {
		b = binary.NativeEndian.AppendUint16(b, uint16(attributeHeaderLength+len(a.value)))
		b = binary.NativeEndian.AppendUint16(b, a.kind)
		b = append(b, a.value...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

// packetBody is the body of a packet message, packetMessage the message.
func packetBody(family uint8, list ...attr) []byte {
	return append([]byte{family, 0, 0, 100}, attributes(list...)...)
}

func packetMessage(list ...attr) []byte {
	body := packetBody(2, list...)
	b := binary.NativeEndian.AppendUint32(nil, uint32(netlinkHeaderLength+len(body)))
	b = binary.NativeEndian.AppendUint16(b, messagePacket)
	b = append(b, make([]byte, 10)...)
	return append(b, body...)
}

// plain is a message that nothing is wrong with.
func plain(id uint32) []byte {
	return packetMessage(header(id), number(attributeMark, 0x50000001), payload(60))
}
