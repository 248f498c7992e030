package pktgen

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Counter counts the frames that arrive at a port, and drops them.
type Counter struct {
	program *ebpf.Program
	counts  *ebpf.Map
	link    link.Link
}

// NewCounter counts at the interface with the index given from now on.
func NewCounter(port int) (*Counter, error) {
	counts, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "received", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("make the map of frames received: %w", err)
	}
	c := &Counter{counts: counts}
	if c.program, err = load("count", c.instructions()); err == nil {
		c.link, err = attach(c.program, port)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Counter) instructions() asm.Instructions {
	const done = "done"
	code := asm.Instructions{asm.StoreImm(asm.R10, -4, 0, asm.Word)}
	code = append(code, lookUp(c.counts, done)...)
	code = append(code,
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
	)
	return append(code, answer(done, xdpDrop)...)
}

// Received returns how many frames came since the Counter was made.
func (c *Counter) Received() (uint64, error) {
	var each []uint64
	if err := c.counts.Lookup(uint32(0), &each); err != nil {
		return 0, fmt.Errorf("read the frames received: %w", err)
	}
	var sum uint64
	for _, n := range each {
		sum += n
	}
	return sum, nil
}

// Close takes the Counter off its port. A second Close is harmless.
func (c *Counter) Close() error {
	var errs []error
	if c.link != nil {
		errs = append(errs, c.link.Close())
		c.link = nil
	}
	return errors.Join(append(errs, c.program.Close(), c.counts.Close())...)
}
