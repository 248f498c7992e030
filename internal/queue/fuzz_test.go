package queue

import (
	"context"
	"io"
	"log/slog"
	"testing"
)

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// FuzzDatagram gives the loop any bytes for a datagram. Nothing panics, and every packet that
// waited has its verdict once a message arrives that can be read.
func FuzzDatagram(f *testing.F) {
	f.Add(plain(1))
	f.Add(plain(3)[:40])
	f.Add(packetMessage(payload(60)))
	f.Add(packetMessage(header(2), attr{attributeMark, nil}))
	f.Add(append(plain(1), plain(2)...))
	f.Add(plain(0x7fffffff))
	f.Add(errorMessage(22, netlinkMessage{kind: messageVerdict, sequence: 1}))
	f.Add(errorMessage(1, netlinkMessage{kind: messageConfig}))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		k := newFakeKernel(t)
		k.waiting = []uint32{1, 2, 3, 4, 5, 6}
		k.turns = [][][]byte{{datagram}, {plain(6)}}
		l := newTestLoop(k, func(p *Packet) Answer {
			if int(p.Length) < len(p.Payload) {
				t.Fatalf("a packet of %d bytes has a payload of %d", p.Length, len(p.Payload))
			}
			return Answer{Accept: true, Payload: p.Payload}
		})
		if err := l.run(context.Background()); err != nil {
			return // the kernel refused to configure: Run unbinds, which drops what waits
		}
		if len(k.waiting) != 0 {
			t.Errorf("packets %v wait without a verdict", k.waiting)
		}
	})
}
