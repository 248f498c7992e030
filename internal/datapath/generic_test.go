package datapath

import (
	"bytes"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// TestGenericOnBothPorts: where one driver runs no XDP the other's does neither, whichever it is; and so it
// stays when a program is put back, and when an earlier daemon has left one port with its driver.
func TestGenericOnBothPorts(t *testing.T) {
	require(t)
	both := [2]XDPMode{XDPGeneric, XDPGeneric}
	for _, without := range []string{testnet.PortA, testnet.PortB} {
		lab := testnet.New(t, testnet.WithoutNativeXDP(without))
		config := Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: time.Hour, Flows: 1024}
		a, b := boxPorts(t, lab)
		first := openWith(t, plan(), config)
		t.Cleanup(func() {
			if err := Remove(config.PinDir); err != nil {
				t.Error(err)
			}
		})
		within(t, lab, func() error {
			// As builds left them that chose for each port.
			for _, at := range first.entries(a, b) {
				if at.port.Name == without {
					continue
				}
				if mode, err := first.attachXDP(at.port, at.program, at.pin); mode != XDPNative || err != nil {
					t.Errorf("port %s: %v, %v", at.port.Name, mode, err)
				}
			}
			modes, err := first.AttachXDP(a, b)
			if err != nil || modes != both {
				t.Errorf("without XDP on %s: %v, %v", without, modes, err)
			}
			for _, port := range []Port{a, b} {
				if refused := first.RefusedNative(port); (refused != nil) != (port.Name == without) {
					t.Errorf("without XDP on %s, port %s said: %v", without, port.Name, refused)
				}
			}
			if err := first.AttachGate(a, b); err != nil {
				return err
			}
			for _, pin := range []string{"xdp_a_generic", "xdp_b_generic"} {
				if err := Detach(config.PinDir, pin); err != nil {
					return err
				}
			}
			_, err = first.Reattach(a, b)
			return err
		})
		found := standing(t, config.PinDir)
		for _, pin := range []string{"xdp_a_generic", "xdp_b_generic"} {
			if _, ok := found[pin]; !ok || len(found) != 6 {
				t.Errorf("without XDP on %s there stand %v, and not %s", without, found, pin)
			}
		}
		second := openWith(t, nil, config)
		within(t, lab, func() error {
			modes, err := second.AttachXDP(a, b)
			if modes != both {
				t.Errorf("a second daemon runs XDP %v", modes)
			}
			return err
		})
	}
}

func within(t *testing.T, lab *testnet.Lab, f func() error) {
	t.Helper()
	if err := lab.Box.Do(f); err != nil {
		t.Fatal(err)
	}
}

// TestMarkerReadsNothingOfTheFrame: metadata that is shorter than ours could be looked for in the frame, and is
// none, whatever it says.
func TestMarkerReadsNothingOfTheFrame(t *testing.T) {
	require(t)
	for _, row := range []struct {
		length int32
		passes bool
	}{{8, false}, {20, false}, {24, true}} {
		lab := testnet.New(t)
		d := openWith(t, plan(), Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: time.Hour, Flows: 1024})
		t.Cleanup(func() {
			if err := Remove(d.config.PinDir); err != nil {
				t.Error(err)
			}
		})
		_, b := boxPorts(t, lab)
		program := marking(t, row.length)
		within(t, lab, func() error {
			m, err := link.AttachTCX(link.TCXOptions{Program: d.objects.Marker, Attach: ebpf.AttachTCXIngress, Interface: b.Index})
			if err != nil {
				return err
			}
			t.Cleanup(func() { m.Close() })
			l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: b.Index})
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		})
		for _, port := range []string{testnet.PortA, testnet.PortB} {
			setLink(t, lab, port, netlink.LinkSetUp)
		}
		if err := testnet.WaitCarrier(lab.Plant, testnet.HostInterface, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		near, err := lab.Tap(lab.Plant, testnet.HostInterface)
		if err != nil {
			t.Fatal(err)
		}
		at, err := lab.Tap(lab.Box, testnet.PortB)
		if err != nil {
			t.Fatal(err)
		}
		sent := hmiTCP(40000, 502, flagSYN).bytes()
		if err := near.Send(sent); err != nil {
			t.Fatal(err)
		}
		if _, err := at.Await(10*time.Second, func(b []byte) bool { return bytes.Equal(b, sent) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // the marker comes right after whoever listens
		if got := d.reasons(t)[verdict.ReasonNoVerdict].Frames; (got == 0) != row.passes {
			t.Errorf("%d bytes of metadata: %d frames without a verdict", row.length, got)
		}
	}
}

// marking is an XDP program that gives each frame metadata of a length in bytes, which begins as ours does.
func marking(t *testing.T, length int32) *ebpf.Program {
	t.Helper()
	const dataMeta, data = 8, 0 // in struct xdp_md
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.Mov.Imm(asm.R2, -length),
			asm.FnXdpAdjustMeta.Call(),
			asm.LoadMem(asm.R2, asm.R6, dataMeta, asm.Word),
			asm.LoadMem(asm.R3, asm.R6, data, asm.Word),
			asm.Mov.Reg(asm.R4, asm.R2),
			asm.Add.Imm(asm.R4, 8),
			asm.JGT.Reg(asm.R4, asm.R3, "end"),
			asm.StoreImm(asm.R2, 0, 0x50656e00+LayoutVersion, asm.Word),
			asm.StoreImm(asm.R2, 4, 1, asm.Word),
			asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("end"),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return program
}
