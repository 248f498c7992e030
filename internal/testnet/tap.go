package testnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tapLimit is how many frames a Tap keeps; later ones are counted in Lost.
const tapLimit = 1 << 17

// Frame is one frame as it came in.
type Frame struct {
	At   time.Time // by the kernel, however late the Tap got to run
	Data []byte    // from the destination MAC on, tags included, without the frame check sequence
}

// Tap receives every frame that comes in on an interface, byte for byte, and sends frames as they
// are given. It does not see what its own side sends. Methods are safe for concurrent use.
type Tap struct {
	conn   *socket.Conn
	port   string
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	frames []Frame
	lost   int
	grown  chan struct{} // closed and replaced when frames grows
}

// Tap opens a Tap on an interface of a host or namespace; the lab closes it.
func (l *Lab) Tap(p Place, name string) (*Tap, error) {
	var t *Tap
	err := p.Do(func() (err error) {
		t, err = openTap(name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("tap %s in %v: %w", name, p, err)
	}
	l.mu.Lock()
	l.taps = append(l.taps, t)
	l.mu.Unlock()
	return t, nil
}

func openTap(name string) (*Tap, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	// Protocol 0 until it is bound, or frames of other interfaces come in meanwhile.
	conn, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "tap", nil)
	if err != nil {
		return nil, err
	}
	if err := prepareTap(conn, link.Attrs().Index); err != nil {
		conn.Close()
		return nil, err
	}
	if err := conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		conn.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Tap{
		conn: conn, port: name, cancel: cancel,
		done: make(chan struct{}), grown: make(chan struct{}),
	}
	go t.receive(ctx)
	return t, nil
}

func prepareTap(conn *socket.Conn, index int) error {
	const bufferBytes = 8 << 20
	if err := conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferBytes); err != nil {
		return err
	}
	if err := conn.SetsockoptInt(unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return err
	}
	if err := conn.SetsockoptInt(unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return err
	}
	networkOrder := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	return conn.Bind(&unix.SockaddrLinklayer{Protocol: networkOrder, Ifindex: index})
}

func (t *Tap) receive(ctx context.Context) {
	defer close(t.done)
	buf := make([]byte, 1<<16)
	oob := make([]byte, unix.CmsgSpace(int(unsafe.Sizeof(unix.TpacketAuxdata{})))+unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{}))))
	for {
		n, oobn, _, _, err := t.conn.Recvmsg(ctx, buf, oob, 0)
		if errors.Is(err, unix.ENETDOWN) {
			continue // the interface went down; it may come back
		}
		if err != nil {
			return
		}
		t.keep(Frame{At: takenIn(oob[:oobn], time.Now()), Data: restoreTag(buf[:n], oob[:oobn])})
	}
}

// takenIn is when the kernel took a frame in, as a time that compares with what time.Now returns also where the
// clock of the wall is set later.
func takenIn(oob []byte, now time.Time) time.Time {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return now
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			ago := now.UnixNano() - (*unix.Timespec)(unsafe.Pointer(&m.Data[0])).Nano()
			return now.Add(-time.Duration(ago))
		}
	}
	return now
}

// restoreTag copies a frame and puts back the outermost tag, which the kernel takes out of the
// frame before it shows it to anybody.
func restoreTag(frame, oob []byte) []byte {
	const addresses, tagLength = 12, 4
	tpid, tci, tagged := outerTag(oob)
	if !tagged || len(frame) < addresses {
		return append([]byte(nil), frame...)
	}
	whole := make([]byte, 0, len(frame)+tagLength)
	whole = append(whole, frame[:addresses]...)
	whole = binary.BigEndian.AppendUint16(whole, tpid)
	whole = binary.BigEndian.AppendUint16(whole, tci)
	return append(whole, frame[addresses:]...)
}

func outerTag(oob []byte) (tpid, tci uint16, tagged bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, 0, false
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA {
			continue
		}
		aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&m.Data[0]))
		if aux.Status&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		if aux.Status&unix.TP_STATUS_VLAN_TPID_VALID == 0 {
			return unix.ETH_P_8021Q, aux.Vlan_tci, true
		}
		return aux.Vlan_tpid, aux.Vlan_tci, true
	}
	return 0, 0, false
}

func (t *Tap) keep(f Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.frames) >= tapLimit {
		t.lost++
		return
	}
	t.frames = append(t.frames, f)
	close(t.grown)
	t.grown = make(chan struct{})
}

// Send puts a frame on the wire as it is: no padding, no checksum, no tag added.
func (t *Tap) Send(frame []byte) error {
	if err := write(t.conn, frame); err != nil {
		return fmt.Errorf("send %d bytes on %s: %w", len(frame), t.port, err)
	}
	return nil
}

// write sends a frame. That its interface was down a socket tells once, whether it reads or writes next, and it may be up
// again.
func write(conn *socket.Conn, frame []byte) error {
	_, err := conn.Write(frame)
	if errors.Is(err, unix.ENETDOWN) {
		_, err = conn.Write(frame)
	}
	return err
}

// Frames returns what came in since the Tap was opened or cleared, in order.
func (t *Tap) Frames() []Frame {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Frame(nil), t.frames...)
}

// FramesFrom returns what Frames does but for the first n.
func (t *Tap) FramesFrom(n int) []Frame {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n >= len(t.frames) {
		return nil
	}
	return append([]Frame(nil), t.frames[n:]...)
}

// Count returns how many frames Frames would return.
func (t *Tap) Count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.frames)
}

// Lost returns how many frames came in after the Tap was full.
func (t *Tap) Lost() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lost
}

// Clear forgets what came in.
func (t *Tap) Clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frames, t.lost = nil, 0
}

// Await waits for a frame that matches, among those that came in already too.
func (t *Tap) Await(timeout time.Duration, match func(frame []byte) bool) ([]byte, error) {
	deadline := time.After(timeout)
	for {
		t.mu.Lock()
		frames, grown := t.frames, t.grown
		t.mu.Unlock()
		for _, f := range frames {
			if match(f.Data) {
				return f.Data, nil
			}
		}
		select {
		case <-grown:
		case <-t.done:
			return nil, fmt.Errorf("await a frame on %s: %w", t.port, os.ErrClosed)
		case <-deadline:
			return nil, fmt.Errorf("await a frame on %s: none of %d matches within %v", t.port, len(frames), timeout)
		}
	}
}

// Close ends the Tap; what came in can still be read. A second Close is harmless.
func (t *Tap) Close() error {
	t.cancel()
	<-t.done
	if err := t.conn.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close the tap on %s: %w", t.port, err)
	}
	return nil
}
