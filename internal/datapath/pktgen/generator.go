package pktgen

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Traffic says what a Generator sends: one frame of each flow in turn, in an order that scatters
// neighbours.
type Traffic struct {
	// Templates are frames of FrameLength bytes. Flow f is sent as template f mod len(Templates).
	Templates [][]byte
	// Flows is how many there are, at least one a template.
	Flows int
	// PortOffset is where in the frame the two bytes stand that tell the flows of a template
	// apart; they count up from FirstPort.
	PortOffset int
	FirstPort  uint16
}

func (t *Traffic) check() error {
	const ports = 1 << 16
	switch {
	case len(t.Templates) == 0 || t.Flows < len(t.Templates):
		return fmt.Errorf("%d flows of %d templates", t.Flows, len(t.Templates))
	case t.PortOffset < 0 || t.PortOffset > FrameLength-2:
		return fmt.Errorf("ports at byte %d of a frame of %d", t.PortOffset, FrameLength)
	case int(t.FirstPort)+(t.Flows-1)/len(t.Templates) >= ports:
		return fmt.Errorf("%d flows of %d templates from port %d: there are not so many ports", t.Flows, len(t.Templates), t.FirstPort)
	}
	return nil
}

// templateSize is FrameLength rounded up to whole words.
const templateSize = 64

// Generator sends frames out of a port. Its methods are not safe for concurrent use.
type Generator struct {
	program   *ebpf.Program
	devices   *ebpf.Map
	templates *ebpf.Map
	sent      *ebpf.Map
	residence *residence
}

// NewGenerator prepares traffic out of the interface with the index given.
func NewGenerator(port int, t Traffic) (*Generator, error) {
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("prepare traffic: %w", err)
	}
	g := &Generator{}
	if err := g.prepare(port, t); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Generator) prepare(port int, t Traffic) (err error) {
	if g.devices, err = devices(port); err != nil {
		return err
	}
	g.templates, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "templates", Type: ebpf.Array, KeySize: 4, ValueSize: templateSize, MaxEntries: uint32(len(t.Templates)),
	})
	if err != nil {
		return fmt.Errorf("make the map of templates: %w", err)
	}
	for i, frame := range t.Templates {
		if len(frame) != FrameLength {
			return fmt.Errorf("template %d has %d bytes, want %d", i, len(frame), FrameLength)
		}
		var value [templateSize]byte
		copy(value[:], frame)
		if err := g.templates.Put(uint32(i), value); err != nil {
			return fmt.Errorf("enter template %d: %w", i, err)
		}
	}
	g.sent, err = ebpf.NewMap(&ebpf.MapSpec{Name: "sent", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("make the map of frames sent: %w", err)
	}
	if g.program, err = load("generate", g.instructions(t)); err != nil {
		return err
	}
	g.residence, err = reside(g.program)
	return err
}

// instructions: count the frame, choose its flow, copy the template, write the port, send.
func (g *Generator) instructions(t Traffic) asm.Instructions {
	const drop = "drop"
	code := asm.Instructions{
		asm.LoadMem(asm.R7, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R8, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.Add.Imm(asm.R1, FrameLength),
		asm.JGT.Reg(asm.R1, asm.R8, drop),
		asm.StoreImm(asm.R10, -4, 0, asm.Word),
	}
	code = append(code, lookUp(g.sent, drop)...)
	code = append(code,
		asm.LoadMem(asm.R9, asm.R0, 0, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R9),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mul.Imm(asm.R9, int32(stride(t.Flows))),
		asm.Mod.Imm(asm.R9, int32(t.Flows)),
		asm.Mov.Reg(asm.R1, asm.R9),
		asm.Mod.Imm(asm.R1, int32(len(t.Templates))),
		asm.Div.Imm(asm.R9, int32(len(t.Templates))),
		asm.StoreMem(asm.R10, -4, asm.R1, asm.Word),
	)
	code = append(code, lookUp(g.templates, drop)...)
	for at := int16(0); at+8 <= FrameLength; at += 8 {
		code = append(code,
			asm.LoadMem(asm.R1, asm.R0, at, asm.DWord),
			asm.StoreMem(asm.R7, at, asm.R1, asm.DWord))
	}
	code = append(code,
		asm.LoadMem(asm.R1, asm.R0, FrameLength-4, asm.Word),
		asm.StoreMem(asm.R7, FrameLength-4, asm.R1, asm.Word),
		asm.Add.Imm(asm.R9, int32(t.FirstPort)),
		asm.HostTo(asm.BE, asm.R9, asm.Half),
		asm.StoreMem(asm.R7, int16(t.PortOffset), asm.R9, asm.Half),
	)
	code = append(code, redirect(g.devices, 0)...)
	return append(code, answer(drop, xdpDrop)...)
}

// stride is a step that meets each of n flows once before it meets one again.
func stride(n int) int {
	for s := 7919; ; s += 2 {
		if gcd(s, n) == 1 {
			return s
		}
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Send sends that many frames, or more where it was interrupted, as fast as they go, and returns how long a frame took: its making,
// and its whole way, if that is by virtual ports, on the core that runs this. The time is the
// kernel's own; setting up and clearing away, which take milliseconds, are not in it. It has to
// be called in the port's network namespace.
func (g *Generator) Send(frames int) (each time.Duration, err error) {
	data := make([]byte, FrameLength)
	for {
		// A signal, such as the runtime sends its threads, ends a run.
		each, err = runLive(g.program, data, frames)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, fmt.Errorf("send %d frames: %w", frames, err)
	}
	return each, nil
}

// Sent returns how many frames were sent since the Generator was made.
func (g *Generator) Sent() (n uint64, err error) {
	if err := g.sent.Lookup(uint32(0), &n); err != nil {
		return 0, fmt.Errorf("read the frames sent: %w", err)
	}
	return n, nil
}

// Close releases the Generator. A second Close is harmless.
func (g *Generator) Close() error {
	return errors.Join(g.residence.close(), g.program.Close(), g.devices.Close(), g.templates.Close(), g.sent.Close())
}
