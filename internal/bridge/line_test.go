package bridge_test

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

func TestLineUpHasEverySetting(t *testing.T) {
	lab := testnet.New(t)
	run(t, lab.Box, "ip", "link", "set", testnet.PortA, "mtu", "1600")
	line := openLine(t, lab, layoutIn(lab))
	wantState(t, line, bridge.Absent)
	bringUp(t, line)
	wantState(t, line, bridge.Up)

	br := linkJSON(t, line.Namespace(), bridgeName)
	for key, want := range map[string]any{
		"stp_state": 0.0, "vlan_filtering": 0.0, "mcast_snooping": 0.0,
		"nf_call_iptables": 1.0, "nf_call_ip6tables": 1.0, "group_fwd_mask": "0xfff8",
	} {
		if got := dig(br, "linkinfo", "info_data", key); got != want {
			t.Errorf("bridge %s is %v, want %v", key, got, want)
		}
	}
	if flags := fmt.Sprint(br["flags"]); !strings.Contains(flags, "NOARP") || !strings.Contains(flags, "UP") {
		t.Errorf("bridge has flags %s, want UP and NOARP", flags)
	}
	for _, port := range []string{testnet.PortA, testnet.PortB} {
		link := linkJSON(t, line.Namespace(), port)
		for key, want := range map[string]any{
			"state": "forwarding", "learning": false, "flood": true, "mcast_flood": true,
			"bcast_flood": true, "group_fwd_mask": "0xfffd", "hairpin": false,
		} {
			if got := dig(link, "linkinfo", "info_slave_data", key); got != want {
				t.Errorf("port %s: %s is %v, want %v", port, key, got, want)
			}
		}
		if flags := fmt.Sprint(link["flags"]); !strings.Contains(flags, "NOARP") || !strings.Contains(flags, "PROMISC") {
			t.Errorf("port %s has flags %s, want NOARP and PROMISC", port, flags)
		}
		if mode := link["inet6_addr_gen_mode"]; mode != "none" {
			t.Errorf("port %s: address generation is %v", port, mode)
		}
		features := run(t, line.Namespace(), "ethtool", "-k", port)
		for _, want := range []string{
			"generic-receive-offload: off", "generic-segmentation-offload: off", "tcp-segmentation-offload: off",
			"rx-vlan-offload: off", "tx-vlan-offload: off",
		} {
			if !strings.Contains(features, want) {
				t.Errorf("port %s: %q is not in\n%s", port, want, features)
			}
		}
	}
	if mtu := linkJSON(t, line.Namespace(), testnet.PortA)["mtu"]; mtu != 1600.0 {
		t.Errorf("port a has MTU %v, had 1600", mtu)
	}
	err := line.Do(func() error {
		for _, row := range [][]string{
			{"1", "bridge", "bridge-nf-filter-vlan-tagged"},
			{"0", "bridge", "bridge-nf-filter-pppoe-tagged"},
			{"1", "ipv6", "conf", bridgeName, "disable_ipv6"},
			{"1", "ipv6", "conf", testnet.PortA, "disable_ipv6"},
			{"1", "ipv6", "conf", testnet.PortB, "disable_ipv6"},
			{"8", "ipv4", "conf", bridgeName, "arp_ignore"},
		} {
			if got, err := bridge.ReadSysctl(row[1:]...); err != nil || got != row[0] {
				t.Errorf("%v is %q, %v, want %q", row[1:], got, err, row[0])
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if out := run(t, line.Namespace(), "ip", "-br", "address"); strings.ContainsAny(strings.ReplaceAll(out, "@", ""), "/") {
		t.Errorf("something has an address:\n%s", out)
	}
}

func TestReportTellsOfPorts(t *testing.T) {
	lab := testnet.New(t)
	run(t, lab.Box, "ip", "link", "set", testnet.PortA, "mtu", "9000")
	line := openLine(t, lab, layoutIn(lab))
	report, undo, err := line.TakePorts()
	if err != nil {
		t.Fatal(err)
	}
	defer undo()
	a := report.Ports[0]
	if a.Port != testnet.PortA || a.MTU != 9000 {
		t.Errorf("port a is reported as %s with MTU %d", a.Port, a.MTU)
	}
	for _, offload := range []string{"tx-tcp-segmentation", "rx-vlan-hw-parse", "tx-vlan-hw-insert"} {
		if !slices.Contains(a.SwitchedOff, offload) {
			t.Errorf("%s is not among what was switched off: %v", offload, a.SwitchedOff)
		}
	}
	if len(a.StillOn) != 0 {
		t.Errorf("still on: %v", a.StillOn)
	}
	if want := []string{"pause", "eee"}; !slices.Equal(a.Unsupported, want) {
		t.Errorf("a virtual port does not support %v, want %v", a.Unsupported, want)
	}
	if len(report.Remarks) != 1 || !strings.Contains(report.Remarks[0], "MTU of 9000") {
		t.Errorf("remarks are %q, want one about the MTUs", report.Remarks)
	}
}

// linkLocal are the protocols that a plant's own network lives by.
func linkLocal() map[string][]byte {
	src := mac(0x10)
	return map[string][]byte{
		"BPDU":          frame([]byte{0x01, 0x80, 0xc2, 0, 0, 0}, src, 38, 0x42, 0x42, 0x03, 0, 0, 2, 2),
		"RSTP 802.1ad":  frame([]byte{0x01, 0x80, 0xc2, 0, 0, 0x08}, src, 38, 0x42, 0x42, 0x03, 0, 0, 2, 2),
		"PVST":          frame([]byte{0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd}, src, 50, 0xaa, 0xaa, 3, 0, 0, 0x0c, 1, 0x0b),
		"LACP":          frame([]byte{0x01, 0x80, 0xc2, 0, 0, 0x02}, src, 0x8809, 1, 1),
		"802.1X":        frame([]byte{0x01, 0x80, 0xc2, 0, 0, 0x03}, src, 0x888e, 1, 1),
		"LLDP":          frame([]byte{0x01, 0x80, 0xc2, 0, 0, 0x0e}, src, 0x88cc, 2, 7, 4),
		"LLDP nearest":  frame([]byte{0x01, 0x80, 0xc2, 0, 0, 0x03}, src, 0x88cc, 2, 7, 4),
		"PTP peer":      frame([]byte{0x01, 0x80, 0xc2, 0, 0, 0x0e}, src, 0x88f7, 2, 2),
		"PTP":           frame([]byte{0x01, 0x1b, 0x19, 0, 0, 0}, src, 0x88f7, 0, 2),
		"MRP test":      frame([]byte{0x01, 0x15, 0x4e, 0, 0, 1}, src, 0x88e3, 0, 1),
		"MRP control":   frame([]byte{0x01, 0x15, 0x4e, 0, 0, 2}, src, 0x88e3, 0, 1),
		"DLR beacon":    frame([]byte{0x01, 0x21, 0x6c, 0, 0, 1}, src, 0x80e1, 2, 1),
		"DLR announce":  frame([]byte{0x01, 0x21, 0x6c, 0, 0, 2}, src, 0x80e1, 2, 1),
		"PROFINET DCP":  frame([]byte{0x01, 0x0e, 0xcf, 0, 0, 0}, src, 0x8892, 0xfe, 0xfe),
		"GOOSE":         frame([]byte{0x01, 0x0c, 0xcd, 1, 0, 1}, src, 0x88b8, 0, 1),
		"PRP":           frame([]byte{0x01, 0x15, 0x4e, 0, 1, 0}, src, 0x88fb, 0, 1),
		"broadcast":     frame(bytes.Repeat([]byte{0xff}, 6), src, 0x88b5, 1),
		"unknown":       frame(mac(0x77), src, 0x88b5, 1),
		"tagged":        frame(mac(0x20), src, 0x8100, 0, 10, 0x88, 0xb5),
		"priority tag":  frame(mac(0x20), src, 0x8100, 0xe0, 0, 0x88, 0xb5),
		"doubly tagged": frame(mac(0x20), src, 0x88a8, 0, 100, 0x81, 0, 0, 10, 0x88, 0xb5),
		"old double":    frame(mac(0x20), src, 0x9100, 0, 100, 0x81, 0, 0, 10, 0x88, 0xb5),
		"longest":       frame(mac(0x20), src, 0x88b5, bytes.Repeat([]byte{0x55}, 1500)...),
	}
}

func TestLinkLocalPassesWithNothingLoaded(t *testing.T) {
	_, cell, plant := tapLine(t)
	for name, f := range linkLocal() {
		t.Run(name, func(t *testing.T) {
			crosses(t, cell, plant, f)
			crosses(t, plant, cell, f)
		})
	}
	t.Run("pause stays on its cable", func(t *testing.T) {
		pause := frame([]byte{0x01, 0x80, 0xc2, 0, 0, 1}, mac(0x10), 0x8808, 0, 1, 0xff, 0xff)
		if err := cell.Send(pause); err != nil {
			t.Fatal(err)
		}
		crosses(t, cell, plant, linkLocal()["broadcast"]) // what was sent later has arrived
		for _, f := range plant.Frames() {
			if bytes.Equal(f.Data, pause) {
				t.Error("a pause frame crossed")
			}
		}
	})
}

// With learning on, a frame that carries the device's own MAC from the other side would draw
// everything for the device to that side.
func TestForgedSourceBlackholesNobody(t *testing.T) {
	lab := testnet.New(t)
	bringUp(t, openLine(t, lab, layoutIn(lab)))
	awaitCarriers(t, lab)
	cell := openTap(t, lab, lab.Cell, testnet.HostInterface)
	plant := openTap(t, lab, lab.Plant, testnet.HostInterface)
	crosses(t, plant, cell, frame(mac(0x99), mac(0x10), 0x88b5, 1)) // the cell's MAC, from the plant
	crosses(t, plant, cell, frame(mac(0x10), mac(0x20), 0x88b5, 2))
}

func TestNothingOfOursIsOnTheWire(t *testing.T) {
	lab := testnet.New(t)
	cell := openTap(t, lab, lab.Cell, testnet.HostInterface)
	plant := openTap(t, lab, lab.Plant, testnet.HostInterface)
	line := openLine(t, lab, layoutIn(lab))
	undo := bringUp(t, line)
	awaitCarriers(t, lab)
	time.Sleep(2 * time.Second) // what a host says, it says in its first second
	if _, err := line.Adopt(); err != nil {
		t.Error(err)
	}
	if err := undo(); err != nil {
		t.Error(err)
	}
	bringUp(t, line)
	time.Sleep(200 * time.Millisecond)
	if err := line.Down(); err != nil {
		t.Error(err)
	}
	for _, f := range append(cell.Frames(), plant.Frames()...) {
		t.Errorf("the appliance said %x", f.Data)
	}
}

// The host of the ports has another address, on an interface of its own. Asked for it through the
// bridge, Linux answers for every address that it has, unless told otherwise; in a namespace
// of the line's own there is none to ask for, so the test is in the namespace that has it.
func TestHostsOtherAddressIsNotAnswered(t *testing.T) {
	for name, own := range map[string]bool{"ports in the host's namespace": false, "ports in their own": true} {
		t.Run(name, func(t *testing.T) {
			lab := testnet.New(t)
			run(t, lab.Box, "ip", "link", "add", "office", "type", "veth", "peer", "name", "desk")
			run(t, lab.Box, "ip", "address", "add", "198.18.0.99/24", "dev", "office")
			run(t, lab.Box, "ip", "link", "set", "desk", "up")
			run(t, lab.Box, "ip", "link", "set", "office", "up")
			layout := layoutIn(lab)
			if !own {
				layout.Namespace = ""
			}
			line := openLine(t, lab, layout)
			bringUp(t, line)
			awaitCarriers(t, lab)
			cell := openTap(t, lab, lab.Cell, testnet.HostInterface)
			plant := openTap(t, lab, lab.Plant, testnet.HostInterface)
			question := frame(bytes.Repeat([]byte{0xff}, 6), mac(0x10), 0x0806,
				0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0x10, 198, 18, 0, 10, 0, 0, 0, 0, 0, 0, 198, 18, 0, 99)
			crosses(t, cell, plant, question)
			hw, err := net.ParseMAC(linkJSON(t, line.Namespace(), bridgeName)["address"].(string))
			if err != nil {
				t.Fatal(err)
			}
			// An echo request to the bridge's own MAC and the host's other address.
			if err := cell.Send(echoRequest(hw, mac(0x10), [4]byte{198, 18, 0, 10}, [4]byte{198, 18, 0, 99})); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond)
			for _, f := range cell.Frames() {
				t.Errorf("answered: %x", f.Data)
			}
		})
	}
}

func TestUndoLeadsBackToWhatWas(t *testing.T) {
	steps := []string{"ports taken", "bridge made", "rule added", "ports raised"}
	for taken := range steps {
		for _, up := range []bool{true, false} {
			for _, own := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, ports up %v, own namespace %v", steps[taken], up, own), func(t *testing.T) {
					lab := testnet.New(t)
					if up {
						run(t, lab.Box, "ip", "link", "set", testnet.PortA, "up")
						run(t, lab.Box, "ip", "link", "set", testnet.PortB, "up")
					}
					run(t, lab.Box, "ethtool", "-K", testnet.PortB, "tso", "off")
					layout := layoutIn(lab)
					if !own {
						layout.Namespace = ""
					}
					line := openLine(t, lab, layout)
					before := picture(t, lab)
					var undos []bridge.Undo
					for i, step := range []func() (bridge.Undo, error){
						func() (bridge.Undo, error) { _, u, err := line.TakePorts(); return u, err },
						line.MakeBridge,
						line.AddRule,
						func() (bridge.Undo, error) { _, u, err := line.RaisePorts(); return u, err },
					} {
						if i > taken {
							break
						}
						undo, err := step()
						if err != nil {
							t.Fatal(err)
						}
						undos = append(undos, undo)
					}
					for _, undo := range slices.Backward(undos) {
						if err := undo(); err != nil {
							t.Fatal(err)
						}
					}
					if d := cmp.Diff(before, picture(t, lab)); d != "" {
						t.Errorf("(-was +is)\n%s", d)
					}
					if own {
						if ns, err := bridge.OpenNamespace(layout.Namespace); err == nil {
							ns.Close()
							t.Error("the namespace is still there")
						}
					}
				})
			}
		}
	}
}

// picture shows everything of the box that a start may change.
func picture(t *testing.T, lab *testnet.Lab) string {
	t.Helper()
	var b strings.Builder
	for _, port := range []string{testnet.PortA, testnet.PortB} {
		link := linkJSON(t, lab.Box, port)
		flags, _ := link["flags"].([]any)
		// Whether there is a carrier is news, not a setting.
		flags = slices.DeleteFunc(flags, func(f any) bool { return f == "LOWER_UP" || f == "NO-CARRIER" })
		fmt.Fprintln(&b, port, flags, link["mtu"], link["address"], link["promiscuity"], link["inet6_addr_gen_mode"], link["master"])
		fmt.Fprintln(&b, run(t, lab.Box, "ethtool", "-k", port))
		fmt.Fprintln(&b, run(t, lab.Box, "sysctl", "-e",
			"net.ipv4.conf."+port+".arp_ignore", "net.ipv4.conf."+port+".rp_filter", "net.ipv4.conf."+port+".forwarding",
			"net.ipv6.conf."+port+".disable_ipv6"))
	}
	fmt.Fprintln(&b, run(t, lab.Box, "sysctl", "net.bridge"))
	fmt.Fprintln(&b, run(t, lab.Box, "nft", "list", "tables"))
	return b.String()
}

// A start that fails at a step leaves what the steps before it did, and nothing of its own.
func TestFailedStepChangesNothing(t *testing.T) {
	lab := testnet.New(t)
	line := openLine(t, lab, layoutIn(lab))
	before := picture(t, lab)
	_, undo, err := line.TakePorts()
	if err != nil {
		t.Fatal(err)
	}
	run(t, line.Namespace(), "ip", "link", "add", bridgeName, "type", "veth", "peer", "name", "other")
	taken := run(t, line.Namespace(), "ip", "-d", "link")
	if _, err := line.MakeBridge(); err == nil {
		t.Fatal("a bridge was made of a cable")
	}
	if now := run(t, line.Namespace(), "ip", "-d", "link"); now != taken {
		t.Errorf("is\n%s\nwas\n%s", now, taken)
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, picture(t, lab)); d != "" {
		t.Errorf("(-was +is)\n%s", d)
	}
}

func TestPartialStartIsCompleted(t *testing.T) {
	lab := testnet.New(t)
	layout := layoutIn(lab)
	crashed := openLine(t, lab, layout)
	if _, _, err := crashed.TakePorts(); err != nil {
		t.Fatal(err)
	}
	if _, err := crashed.MakeBridge(); err != nil {
		t.Fatal(err)
	}
	run(t, crashed.Namespace(), "ip", "link", "set", testnet.PortB, "nomaster")
	line := openLine(t, lab, layout)
	wantState(t, line, bridge.Partial)
	bringUp(t, line)
	wantState(t, line, bridge.Up)
	awaitCarriers(t, lab)
	wantCrossing(t, lab)
}

// The daemon makes a line anew whose programs are gone, bridge or no bridge.
func TestLineThatIsUpIsMadeAgain(t *testing.T) {
	lab := testnet.New(t)
	layout := layoutIn(lab)
	bringUp(t, openLine(t, lab, layout))
	line := openLine(t, lab, layout)
	undo := bringUp(t, line)
	wantState(t, line, bridge.Up)
	awaitCarriers(t, lab)
	wantCrossing(t, lab)
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	wantState(t, line, bridge.Up)
	awaitCarriers(t, lab)
	if repaired, err := line.Adopt(); err != nil || len(repaired) != 0 {
		t.Errorf("undone, it needed repair: %q, %v", repaired, err)
	}
	wantCrossing(t, lab)
}

func TestAdoptRepairsWithoutLoss(t *testing.T) {
	lab := testnet.New(t)
	layout := layoutIn(lab)
	bringUp(t, openLine(t, lab, layout))
	awaitCarriers(t, lab)
	line := openLine(t, lab, layout)
	wantState(t, line, bridge.Up)
	repaired, err := line.Adopt()
	if err != nil || len(repaired) != 0 {
		t.Fatalf("adopting what is right repaired %q, %v", repaired, err)
	}
	cell := openTap(t, lab, lab.Cell, testnet.HostInterface)
	plant := openTap(t, lab, lab.Plant, testnet.HostInterface)
	traffic := startFlow(cell)
	changes := linkChanges(t, line)
	for _, row := range []struct {
		change []string
		want   string
	}{
		{[]string{"ip", "link", "set", bridgeName, "type", "bridge", "mcast_snooping", "1"}, "mcast_snooping of penstock0"},
		{[]string{"ip", "link", "set", bridgeName, "type", "bridge", "nf_call_iptables", "0"}, "nf_call_iptables of penstock0"},
		{[]string{"ip", "link", "set", bridgeName, "type", "bridge", "group_fwd_mask", "0"}, "group_fwd_mask of penstock0"},
		{[]string{"ip", "link", "set", "pa", "type", "bridge_slave", "learning", "on"}, "learning of pa"},
		{[]string{"ip", "link", "set", "pb", "type", "bridge_slave", "group_fwd_mask", "0"}, "group_fwd_mask of pb"},
		{[]string{"ip", "link", "set", "pb", "promisc", "off"}, "promiscuous mode of pb"},
		{[]string{"ip", "link", "set", "pa", "arp", "on"}, "arp of pa"},
		{[]string{"ethtool", "-K", "pa", "tso", "on"}, "tx-tcp-segmentation of pa"},
		{[]string{"sysctl", "net.ipv4.conf.penstock0.arp_ignore=0"}, "arp_ignore of penstock0"},
		{[]string{"sysctl", "net.ipv6.conf.pa.disable_ipv6=0"}, "disable_ipv6 of pa"},
		{[]string{"sysctl", "net.bridge.bridge-nf-filter-vlan-tagged=0"}, "bridge-nf-filter-vlan-tagged"},
		{[]string{"nft", "flush", "ruleset"}, "netfilter rules"},
		{[]string{"nft", "delete", "table", "ip6", "penstock"}, "netfilter rules"},
		{[]string{"nft", "insert", "rule", "ip", "penstock", "forward", "counter"}, "netfilter rules"},
		{[]string{"nft", "add", "chain", "ip", "penstock", "more"}, "netfilter rules"},
	} {
		t.Run(row.want+" after "+strings.Join(row.change, " "), func(t *testing.T) {
			run(t, line.Namespace(), row.change[0], row.change[1:]...)
			repaired, err := line.Adopt()
			if err != nil || !slices.Contains(repaired, row.want) {
				t.Errorf("repaired %q, %v, want %q", repaired, err, row.want)
			}
			if again, err := line.Adopt(); err != nil || len(again) != 0 {
				t.Errorf("then repaired %q, %v", again, err)
			}
		})
	}
	if now := linkChanges(t, line); now != changes {
		t.Errorf("the links went down and up: %s, was %s", now, changes)
	}
	traffic.end(t, plant)
}

func TestAdoptRaisesWhatIsDown(t *testing.T) {
	lab := testnet.New(t)
	line := openLine(t, lab, layoutIn(lab))
	bringUp(t, line)
	run(t, line.Namespace(), "ip", "link", "set", testnet.PortB, "down")
	run(t, line.Namespace(), "ip", "link", "set", bridgeName, "down")
	repaired, err := line.Adopt()
	if err != nil || !slices.Contains(repaired, "pb up") || !slices.Contains(repaired, "penstock0 up") {
		t.Errorf("repaired %q, %v", repaired, err)
	}
	awaitCarriers(t, lab)
	wantCrossing(t, lab)
}

func TestAdoptRefusesWhatIsNotUp(t *testing.T) {
	lab := testnet.New(t)
	line := openLine(t, lab, layoutIn(lab))
	if _, err := line.Adopt(); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("error %v, want one that says absent", err)
	}
}

// linkChanges counts how often the carriers came and went.
func linkChanges(t *testing.T, line *bridge.Line) string {
	t.Helper()
	var all []string
	for _, port := range []string{testnet.PortA, testnet.PortB} {
		link := linkJSON(t, line.Namespace(), port)
		all = append(all, fmt.Sprint(link["carrier_changes"], link["carrier_up_count"], link["carrier_down_count"]))
	}
	return strings.Join(all, ", ")
}

func TestDownGivesPortsBack(t *testing.T) {
	lab := testnet.New(t)
	layout := layoutIn(lab)
	before := picture(t, lab)
	bringUp(t, openLine(t, lab, layout))
	line := openLine(t, lab, layout)
	if err := line.Down(); err != nil {
		t.Fatal(err)
	}
	wantState(t, line, bridge.Absent)
	if d := cmp.Diff(before, picture(t, lab)); d != "" {
		t.Errorf("(-was +is)\n%s", d)
	}
	if ns, err := bridge.OpenNamespace(layout.Namespace); err == nil {
		ns.Close()
		t.Error("the namespace is still there")
	}
	if err := line.Down(); err != nil {
		t.Errorf("once more: %v", err)
	}
	bringUp(t, line)
	wantState(t, line, bridge.Up)
}

func TestDownInTheHostsNamespace(t *testing.T) {
	lab := testnet.New(t)
	layout := layoutIn(lab)
	layout.Namespace = ""
	line := openLine(t, lab, layout)
	bringUp(t, line)
	wantState(t, line, bridge.Up)
	if err := line.Down(); err != nil {
		t.Fatal(err)
	}
	wantState(t, line, bridge.Absent)
	if out := run(t, lab.Box, "ip", "-br", "link"); strings.Contains(out, bridgeName) || !strings.Contains(out, "pa@") {
		t.Errorf("left:\n%s", out)
	}
	if out := run(t, lab.Box, "nft", "list", "ruleset"); out != "" {
		t.Errorf("left:\n%s", out)
	}
}

func TestDownGivesPortsToWhoeverCalls(t *testing.T) {
	lab := testnet.New(t)
	layout := layoutIn(lab)
	bringUp(t, openLine(t, lab, layout))
	elsewhere, err := lab.Namespace("elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	err = elsewhere.Do(func() error {
		line, err := bridge.Open(layout)
		if err != nil {
			return err
		}
		defer line.Close()
		return line.Down()
	})
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, elsewhere, "ip", "-br", "link"); !strings.Contains(out, "pa@") || !strings.Contains(out, "pb@") {
		t.Errorf("the ports are not where the caller is:\n%s", out)
	}
}

func TestDownLeavesWhatIsOthers(t *testing.T) {
	lab := testnet.New(t)
	line := openLine(t, lab, layoutIn(lab))
	bringUp(t, line)
	run(t, line.Namespace(), "ip", "link", "add", "guest", "type", "veth", "peer", "name", "guest2")
	err := line.Down()
	if err == nil || !strings.Contains(err.Error(), "guest, guest2") {
		t.Errorf("error %v, want one that names guest", err)
	}
	if out := run(t, lab.Box, "ip", "-br", "link"); !strings.Contains(out, "pa@") {
		t.Errorf("the ports are not back:\n%s", out)
	}
	run(t, line.Namespace(), "ip", "link", "del", "guest")
	if err := line.Down(); err != nil {
		t.Error(err)
	}
}

func TestLineIndex(t *testing.T) {
	lab := testnet.New(t)
	line := openLine(t, lab, layoutIn(lab))
	if _, err := line.Index(policy.SideA); err == nil {
		t.Error("a port has an index before there is a namespace")
	}
	bringUp(t, line)
	for side, port := range map[policy.Side]string{policy.SideA: testnet.PortA, policy.SideB: testnet.PortB} {
		got, err := line.Index(side)
		if want := linkJSON(t, line.Namespace(), port)["ifindex"]; err != nil || float64(got) != want {
			t.Errorf("port %s has index %d, %v, want %v", port, got, err, want)
		}
	}
}

func TestPortWithoutCarrierIsNotWaitedFor(t *testing.T) {
	lab := testnet.New(t)
	run(t, lab.Plant, "ip", "link", "set", testnet.HostInterface, "down")
	line := openLine(t, lab, layoutIn(lab))
	start := time.Now()
	bringUp(t, line)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}
