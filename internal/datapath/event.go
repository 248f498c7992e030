package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// Event is one decision of the fast path that was worth telling.
type Event struct {
	Time        time.Time
	Generation  uint32 // of the policy; Plan names its identities and conduits
	Conduit     uint32
	Source      uint32 // identities, 0 where unknown
	Destination uint32
	Verdict     verdict.Verdict
	Observed    bool // forwarded whatever the verdict
	Side        policy.Side

	SourceMAC, DestinationMAC   [6]byte
	VLANs                       []uint16 // outermost first
	EtherType                   uint16   // 0 for 802.3 with LLC
	Length                      int      // bytes of the frame
	SourceIP, DestinationIP     netip.Addr
	SourcePort, DestinationPort uint16
	Protocol                    uint8 // of IP
	ICMPType                    uint8
}

// eventSize is sizeof(struct event).
const eventSize = int(unsafe.Sizeof(bpf.BridgeEvent{}))

// EventReader reads the fast path's events. One goroutine at a time.
type EventReader struct {
	ring   *ringbuf.Reader
	record ringbuf.Record
	epoch  epoch
}

// Events opens the ring of events. Only one reader sees each event.
func (d *Datapath) Events() (*EventReader, error) {
	ring, err := ringbuf.NewReader(d.objects.Events)
	if err != nil {
		return nil, fmt.Errorf("open the fast path's events: %w", err)
	}
	return &EventReader{ring: ring, epoch: newEpoch()}, nil
}

// Read waits for the next event. After Close it returns os.ErrClosed.
func (r *EventReader) Read() (Event, error) {
	for {
		if err := r.ring.ReadInto(&r.record); err != nil {
			if errors.Is(err, ringbuf.ErrClosed) {
				return Event{}, os.ErrClosed
			}
			return Event{}, fmt.Errorf("read the fast path's events: %w", err)
		}
		if e, ok := decodeEvent(r.record.RawSample, r.epoch); ok {
			return e, nil
		}
	}
}

// Close ends a Read that waits.
func (r *EventReader) Close() error { return r.ring.Close() }

// decodeEvent reads struct event of bpf/types.h. Words are in host byte order, ports in
// network byte order.
func decodeEvent(b []byte, at epoch) (Event, bool) {
	if len(b) < eventSize {
		return Event{}, false
	}
	host := binary.NativeEndian
	e := Event{
		Time:        at.timeOf(host.Uint64(b[0:])),
		Generation:  host.Uint32(b[8:]),
		Conduit:     host.Uint32(b[12:]),
		Source:      host.Uint32(b[16:]),
		Destination: host.Uint32(b[20:]),
		Verdict:     verdict.Verdict{Action: verdict.Action(b[24]), Reason: verdict.Reason(b[25])},
		Side:        policy.Side(b[26]),
		Observed:    b[27] != 0,
		EtherType:   host.Uint16(b[44:]),
		Length:      int(host.Uint16(b[46:])),
		SourcePort:  binary.BigEndian.Uint16(b[80:]), DestinationPort: binary.BigEndian.Uint16(b[82:]),
		Protocol: b[84],
		ICMPType: b[86],
	}
	copy(e.SourceMAC[:], b[28:])
	copy(e.DestinationMAC[:], b[34:])
	for _, at := range []int{40, 42} {
		if tag := host.Uint16(b[at:]); tag != 0 {
			e.VLANs = append(e.VLANs, tag&0x0fff)
		}
	}
	if b[85] != 0 {
		e.SourceIP = address(b[48:64])
		e.DestinationIP = address(b[64:80])
	}
	return e, true
}

func address(b []byte) netip.Addr {
	return netip.AddrFrom16([16]byte(b)).Unmap()
}

func hostToNetwork(v uint32) uint32 {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return binary.NativeEndian.Uint32(b[:])
}
