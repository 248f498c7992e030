// Package pktgen sends, counts and redirects frames with the smallest XDP programs that can, for
// benchmarks: what a forwarding path costs shows only where making and counting the frames costs
// little. The programs are written as instructions, so that no compiler is needed.
//
// It needs root, and every constructor has to be called in the network namespace of the port.
package pktgen

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// FrameLength is the length of every frame sent: the least that Ethernet has, 64 bytes with the
// frame check sequence, which is not among them.
const FrameLength = 60

// The return values of an XDP program.
const (
	xdpDrop = 1
	xdpPass = 2
)

// attach puts a program on a port, in its driver.
func attach(program *ebpf.Program, port int) (link.Link, error) {
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: port, Flags: link.XDPDriverMode})
	if err != nil {
		return nil, fmt.Errorf("attach XDP to interface %d: %w", port, err)
	}
	return l, nil
}

func load(name string, instructions asm.Instructions) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.XDP, Instructions: instructions, License: "Dual BSD/GPL",
	})
	if err != nil {
		return nil, fmt.Errorf("load the program %s: %w", name, err)
	}
	return p, nil
}

// devices makes a map that frames are redirected by, with one port an entry.
func devices(ports ...int) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "devices", Type: ebpf.DevMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(len(ports)),
	})
	if err != nil {
		return nil, fmt.Errorf("make a device map: %w", err)
	}
	for i, port := range ports {
		if err := m.Put(uint32(i), uint32(port)); err != nil {
			return nil, errors.Join(fmt.Errorf("enter interface %d: %w", port, err), m.Close())
		}
	}
	return m, nil
}

// redirect is the end of a program that sends the frame out of a map's port. It needs the
// context in R6 no more.
func redirect(m *ebpf.Map, entry int32) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Imm(asm.R2, entry),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnRedirectMap.Call(),
		asm.Return(),
	}
}

// lookUp leaves the address of a map's entry in R0, or jumps. The key is the word at R10-4.
func lookUp(m *ebpf.Map, missing string) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, missing),
	}
}

// answer is a program's end, with a label to jump to.
func answer(label string, value int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R0, value).WithSymbol(label),
		asm.Return(),
	}
}
