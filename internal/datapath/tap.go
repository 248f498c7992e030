package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/policy"
)

// Copy is a frame of an observed conduit, which is on its way already. Frame and IP alias the
// reader's buffer until the next Read.
type Copy struct {
	Time  time.Time
	Key   uint32 // the flow, as in package mark
	Side  policy.Side
	Frame []byte
	IP    []byte // from the IP header on
}

// tapHeaderSize is sizeof(struct tap_header).
const tapHeaderSize = int(unsafe.Sizeof(bpf.BridgeTapHeader{}))

// TapReader reads the copies of observed frames, in the order of the wire. One goroutine.
type TapReader struct {
	ring   *ringbuf.Reader
	record ringbuf.Record
	epoch  epoch
}

// Tap opens the ring of copies.
func (d *Datapath) Tap() (*TapReader, error) {
	ring, err := ringbuf.NewReader(d.objects.Tap)
	if err != nil {
		return nil, fmt.Errorf("open the copies of observed frames: %w", err)
	}
	return &TapReader{ring: ring, epoch: newEpoch()}, nil
}

// Read waits for the next copy. After Close it returns os.ErrClosed.
func (r *TapReader) Read() (Copy, error) {
	for {
		if err := r.ring.ReadInto(&r.record); err != nil {
			if errors.Is(err, ringbuf.ErrClosed) {
				return Copy{}, os.ErrClosed
			}
			return Copy{}, fmt.Errorf("read the copies of observed frames: %w", err)
		}
		if c, ok := decodeCopy(r.record.RawSample, r.epoch); ok {
			return c, nil
		}
	}
}

// Close ends a Read that waits.
func (r *TapReader) Close() error { return r.ring.Close() }

func decodeCopy(b []byte, at epoch) (Copy, bool) {
	if len(b) < tapHeaderSize {
		return Copy{}, false
	}
	host := binary.NativeEndian
	length, network := int(host.Uint16(b[12:])), int(host.Uint16(b[14:]))
	frame := b[tapHeaderSize:]
	if length > len(frame) || network > length {
		return Copy{}, false
	}
	return Copy{
		Time:  at.timeOf(host.Uint64(b)),
		Key:   host.Uint32(b[8:]),
		Side:  policy.Side(b[16]),
		Frame: frame[:length],
		IP:    frame[network:length],
	}, true
}
