package bridge_test

import (
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/testnet"
)

func TestLayoutThatNoMachineHas(t *testing.T) {
	for _, row := range []struct {
		name   string
		layout bridge.Layout
		want   string
	}{
		{"same port twice", bridge.Layout{PortA: "pa", PortB: "pa", Bridge: "br"}, "pa is given as port a and as port b"},
		{"port a is the bridge", bridge.Layout{PortA: "br", PortB: "pb", Bridge: "br"}, "br is given as a port and as the bridge"},
		{"port b is the bridge", bridge.Layout{PortA: "pa", PortB: "br", Bridge: "br"}, "br is given as a port and as the bridge"},
		{"no port", bridge.Layout{PortB: "pb", Bridge: "br"}, "port a: it is empty"},
		{"no bridge", bridge.Layout{PortA: "pa", PortB: "pb"}, "the bridge: it is empty"},
		{"long name", bridge.Layout{PortA: "sixteen-letters-", PortB: "pb", Bridge: "br"}, "longer than 15 bytes"},
		{"space in a name", bridge.Layout{PortA: "p a", PortB: "pb", Bridge: "br"}, `"p a" is no name`},
		{"path for a name", bridge.Layout{PortA: "../all", PortB: "pb", Bridge: "br"}, `"../all" is no name`},
		{"namespace with a slash", bridge.Layout{PortA: "pa", PortB: "pb", Bridge: "br", Namespace: "a/b"}, "not a name"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := bridge.Open(row.layout)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one with %q", err, row.want)
			}
		})
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, row := range []struct {
		name   string
		setup  [][]string // ip arguments, run in the box
		change func(*bridge.Layout)
		want   []string
	}{
		{"port does not exist", nil, func(l *bridge.Layout) { l.PortB = "absent" },
			[]string{"port absent", "no such interface", "pa, pb"}},
		{"port has an IPv4 address", [][]string{{"address", "add", "198.18.9.1/24", "dev", "pa"}}, nil,
			[]string{"port pa", "IP address 198.18.9.1/24", "ip address delete 198.18.9.1/24 dev pa"}},
		{"port has an IPv6 address", [][]string{{"address", "add", "fd00::1/64", "dev", "pb", "nodad"}}, nil,
			[]string{"port pb", "IP address fd00::1/64"}},
		{"port has a link-local address by hand", [][]string{{"address", "add", "fe80::5/64", "dev", "pb", "nodad"}}, nil,
			[]string{"port pb", "IP address fe80::5/64"}},
		{"port belongs to a foreign bridge", [][]string{{"link", "add", "office", "type", "bridge"}, {"link", "set", "pa", "master", "office"}}, nil,
			[]string{"port pa", "belongs to the bridge office", "ip link set pa nomaster"}},
		{"port belongs to a bridge of that name elsewhere", [][]string{{"link", "add", bridgeName, "type", "bridge"}, {"link", "set", "pa", "master", bridgeName}}, nil,
			[]string{"port pa", "belongs to the bridge " + bridgeName}},
		{"port is the loopback", nil, func(l *bridge.Layout) { l.PortA = "lo" }, []string{"port lo", "loopback"}},
		{"port is a bridge", [][]string{{"link", "add", "office", "type", "bridge"}}, func(l *bridge.Layout) { l.PortA = "office" },
			[]string{"port office", "it is a bridge"}},
		{"port is not Ethernet", [][]string{{"tuntap", "add", "tunnel", "mode", "tun"}}, func(l *bridge.Layout) { l.PortA = "tunnel" },
			[]string{"port tunnel", "has to be Ethernet"}},
		{"port carries another interface", [][]string{{"link", "add", "pa.10", "link", "pa", "type", "macvlan"}}, nil,
			[]string{"port pa", "carries the macvlan interface pa.10"}},
		{"bridge's name is taken", [][]string{{"link", "add", bridgeName, "type", "veth", "peer", "name", "other"}}, func(l *bridge.Layout) { l.Namespace = "" },
			[]string{"bridge " + bridgeName, "it is a veth"}},
		{"bridge has an address", [][]string{{"link", "add", bridgeName, "type", "bridge"}, {"address", "add", "198.18.9.2/24", "dev", bridgeName}}, func(l *bridge.Layout) { l.Namespace = "" },
			[]string{"bridge " + bridgeName, "IP address 198.18.9.2/24"}},
		{"bridge joins others", [][]string{{"link", "add", bridgeName, "type", "bridge"}, {"link", "add", "third", "type", "veth", "peer", "name", "other"}, {"link", "set", "third", "master", bridgeName}}, func(l *bridge.Layout) { l.Namespace = "" },
			[]string{"bridge " + bridgeName, "also joins third"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			lab := testnet.New(t)
			for _, args := range row.setup {
				run(t, lab.Box, "ip", args...)
			}
			layout := layoutIn(lab)
			if row.change != nil {
				row.change(&layout)
			}
			line := openLine(t, lab, layout)
			before := run(t, lab.Box, "ip", "-d", "address")
			err := line.Check()
			if _, _, startErr := line.TakePorts(); startErr == nil {
				t.Error("TakePorts went ahead")
			}
			for _, want := range row.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
			if after := run(t, lab.Box, "ip", "-d", "address"); after != before {
				t.Errorf("something changed:\n%s\nwas\n%s", after, before)
			}
			if _, err := bridge.OpenNamespace(layout.Namespace); layout.Namespace != "" && err == nil {
				t.Error("the namespace was created")
			}
		})
	}
}

func TestCheckNamesAPortThatIsInBothPlaces(t *testing.T) {
	lab := testnet.New(t)
	layout := layoutIn(lab)
	ns, _, err := bridge.EnsureNamespace(layout.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	run(t, ns, "ip", "link", "add", "pa", "type", "veth", "peer", "name", "other")
	err = openLine(t, lab, layout).Check()
	if err == nil || !strings.Contains(err.Error(), "both") {
		t.Errorf("error %v, want one that says both", err)
	}
}

// A port that is up has a link-local address that nobody gave it.
func TestCheckAcceptsAPortThatIsUp(t *testing.T) {
	lab := testnet.New(t)
	for _, port := range []string{testnet.PortA, testnet.PortB} {
		run(t, lab.Box, "ip", "link", "set", port, "up")
		err := testnet.WaitCarrier(lab.Box, port, 3e9)
		if err != nil {
			t.Fatal(err)
		}
	}
	err := testnet.WaitFor("a link-local address", 3e9, func() (bool, error) {
		return strings.Contains(run(t, lab.Box, "ip", "-6", "address"), "fe80"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := openLine(t, lab, layoutIn(lab)).Check(); err != nil {
		t.Error(err)
	}
}
