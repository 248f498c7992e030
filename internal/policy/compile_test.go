package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func mustCompile(t testing.TB, text string) *Plan {
	t.Helper()
	p := mustParse(t, text)
	plan, err := p.Compile(p.Appliances[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// id returns the number of the identity named.
func (p *Plan) id(t testing.TB, name string) uint32 {
	t.Helper()
	for i := range p.Identities {
		if i > 0 && p.Identities[i].Name == name {
			return uint32(i)
		}
	}
	t.Fatalf("the plan has no identity %q", name)
	return 0
}

// TestExamplePlan holds the whole plan of the example: what the fast path will be filled with.
func TestExamplePlan(t *testing.T) {
	p, err := ParseFile("../../configs/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Compile("line-3-gate")
	if err != nil {
		t.Fatal(err)
	}
	wantIdentities := []string{"1 hmi-1 b", "2 engineering b", "3 filler-plc a", "4 pump-rtu a", "5 plant-router b",
		"6 historian b", "7 broadcast any", "8 group:profinet_dcp any"}
	var identities []string
	for i, who := range plan.Identities[1:] {
		identities = append(identities, fmt.Sprintf("%d %s %s", i+1, who.Name, who.Side))
	}
	if diff := cmp.Diff(wantIdentities, identities); diff != "" {
		t.Errorf("identities (-want +got):\n%s", diff)
	}
	var pairs []string
	for _, pair := range plan.Pairs {
		for _, r := range plan.Ranges[pair.First : pair.First+pair.Count] {
			pairs = append(pairs, fmt.Sprintf("%s>%s %d/%d-%d %s", plan.member(pair.From), plan.member(pair.To),
				pair.Transport, r.Low, r.High, plan.Conduits[r.Conduit].Name))
		}
	}
	wantPairs := []string{
		"hmi-1>filler-plc 6/502-502 hmi-to-filler", "hmi-1>filler-plc 6/44818-44818 hmi-tags",
		"hmi-1>filler-plc 17/2222-2222 hmi-tags", "hmi-1>pump-rtu 6/20000-20000 scada-to-pump",
		"engineering>filler-plc 256/34962-34962 device-naming",
		"engineering>group:profinet_dcp 256/34962-34962 device-naming",
		"filler-plc>broadcast 17/67-67 boot-addresses", "pump-rtu>broadcast 17/67-67 boot-addresses",
		"historian>filler-plc 6/4840-4840 historian-pull", "historian>pump-rtu 6/4840-4840 historian-pull",
	}
	if diff := cmp.Diff(wantPairs, pairs); diff != "" {
		t.Errorf("pairs (-want +got):\n%s", diff)
	}
	var states []string
	for i := range plan.Conduits[1:] {
		c := &plan.Conduits[i+1]
		looked := map[bool]string{true: "inspected", false: "address"}[c.Inspect]
		states = append(states, fmt.Sprintf("%s %s %s %s", c.Name, looked, c.OnOutage, c.OnDeny))
	}
	wantStates := []string{
		"hmi-to-filler inspected open exception", "scada-to-pump inspected closed reset", "hmi-tags inspected open exception",
		"historian-pull address open reset", "device-naming address open reset", "boot-addresses address open reset",
	}
	if diff := cmp.Diff(wantStates, states); diff != "" {
		t.Errorf("conduits (-want +got):\n%s", diff)
	}
}

// member returns the name of the first identity of a class.
func (p *Plan) member(class Class) string {
	for i := range p.Identities {
		if p.Identities[i].Class == class {
			return p.Identities[i].Name
		}
	}
	return "nobody"
}

func TestCompileNamesTheAppliancesThatThereAre(t *testing.T) {
	_, err := mustParse(t, base).Compile("gaet")
	if err == nil || err.Error() != `compile policy p.yaml: it has no appliance "gaet": did you mean "gate"?` {
		t.Errorf("got %v", err)
	}
}

func TestCompileIsDeterministic(t *testing.T) {
	text := edit(t, base, "to: [plc]\n    protocol: tcp\n    ports: [443]", "to: [plc, broadcast, \"group:goose\", \"group:sv\"]\n    protocol: udp")
	first := mustCompile(t, text)
	for range 20 {
		again := mustCompile(t, text)
		if diff := cmp.Diff(first, again, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.IgnoreUnexported(Plan{})); diff != "" {
			t.Fatalf("two plans of one policy differ:\n%s", diff)
		}
	}
}

func TestIdentitiesThatSelectorsTreatAlikeShareAClass(t *testing.T) {
	plan := mustCompile(t, edit(t, base, "conduits:", `  - {name: hmi-2, zone: room, mac: "02:00:00:00:00:22"}
  - {name: idle-1, zone: room, mac: "02:00:00:00:00:23"}
  - {name: idle-2, zone: room, mac: "02:00:00:00:00:24"}
  - {name: idle-3, zone: cell, mac: "02:00:00:00:00:25"}
conduits:`, "from: [hmi]", "from: [hmi-2, hmi]"))
	class := func(name string) Class { return plan.Identities[plan.id(t, name)].Class }
	if class("hmi") != class("hmi-2") || class("idle-1") != class("idle-2") {
		t.Error("alike, yet in two classes")
	}
	if class("hmi") == class("idle-1") || class("hmi") == class("far") {
		t.Error("treated differently, yet in one class")
	}
	if class("idle-1") == class("idle-3") {
		t.Error("on two sides, yet in one class")
	}
	for i := 1; i < len(plan.Identities); i++ {
		if plan.Identities[i].Class == 0 {
			t.Errorf("%s is in class 0, which holds nobody", plan.Identities[i].Name)
		}
	}
}

// Two appliances, of which each sees only its own half.
const twoGates = `api_version: penstock/v1
mode: enforce
appliances:
  - {name: west, sides: {a: [cell-1], b: [room]}}
  - {name: east, sides: {a: [cell-2], b: [room]}}
zones: [{name: room}, {name: cell-1}, {name: cell-2}]
identities:
  - {name: hmi, zone: room, mac: "02:00:00:00:00:20", ip: [198.18.0.20]}
  - {name: plc-1, zone: cell-1, mac: "02:00:00:00:00:11", ip: [198.18.0.10]}
  - {name: plc-2, zone: cell-2, mac: "02:00:00:00:00:12", ip: [198.18.0.10]}
conduits:
  - {name: one, from: [hmi], to: [plc-1], protocol: tcp, ports: [502]}
  - {name: both, from: [hmi], to: [plc-1, plc-2], protocol: tcp, ports: [80]}
`

func TestWhatDoesNotCrossIsLeftOut(t *testing.T) {
	p := mustParse(t, twoGates) // with equal addresses behind two appliances
	plan, err := p.Compile("east")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, who := range plan.Identities[1:] {
		got = append(got, who.Name)
	}
	for _, c := range plan.Conduits[1:] {
		got = append(got, fmt.Sprint(c.Name, c.From, c.To))
	}
	if want := []string{"hmi", "plc-2", "broadcast", "both[1] [2]"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRangesOfOnePair(t *testing.T) {
	plain := func(name, ports string) string {
		return fmt.Sprintf("  - {name: %s, from: [far], to: [plc], protocol: tcp, ports: [%s]}\n", name, ports)
	}
	rows := []struct{ name, conduits, want string }{
		{"one", plain("x", "80"), "80-80 x"},
		{"neighbours of one conduit join", plain("x", "80, 81-90"), "80-90 x"},
		{"apart", plain("x", "80, 90"), "80-80 x, 90-90 x"},
		{"the earlier goes first", plain("x", "80-90") + plain("y", "85-95"), "80-90 x, 91-95 y"},
		{"the earlier goes first, inside", plain("x", "85") + plain("y", "80-90"), "80-84 y, 85-85 x, 86-90 y"},
		{"the last port", plain("x", "65535") + plain("y", "1-65535"), "1-65534 y, 65535-65535 x"},
		{"every port", "  - {name: x, from: [far], to: [plc], protocol: tcp}\n" + plain("y", "80"), "0-65535 x"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			head, _, _ := strings.Cut(base, "conduits:\n")
			plan := mustCompile(t, head+"conduits:\n"+row.conduits)
			if len(plan.Pairs) != 1 {
				t.Fatalf("%d pairs", len(plan.Pairs))
			}
			var got []string
			for _, r := range plan.Ranges {
				got = append(got, fmt.Sprintf("%d-%d %s", r.Low, r.High, plan.Conduits[r.Conduit].Name))
			}
			if strings.Join(got, ", ") != row.want {
				t.Errorf("got %v, want %s", got, row.want)
			}
		})
	}
}

// TestInspectionWinsOnOverlap holds the last line of defence: the checker refuses such a policy, so
// it is put together here past the checker.
func TestInspectionWinsOnOverlap(t *testing.T) {
	p := mustParse(t, base)
	plain := p.Conduits[1]
	plain.From, plain.Services = p.Conduits[0].From, []Service{{TransportTCP, 500, 510}}
	p.Conduits = []ConduitSpec{plain, p.Conduits[0]}
	plan, err := p.Compile("gate")
	if err != nil {
		t.Fatal(err)
	}
	want := []Range{{500, 501, 1}, {502, 502, 2}, {503, 510, 1}}
	if diff := cmp.Diff(want, plan.Ranges); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
}

func TestAddresses(t *testing.T) {
	plan := mustCompile(t, edit(t, base, "ip: [198.18.64.0/18]", "ip: [198.18.0.0/16, 198.18.64.0/18]",
		"to: [plc]\n    protocol: tcp\n    ports: [443]", "to: [\"group:239.192.0.0/14\"]\n    protocol: udp"))
	var got []string
	for _, a := range plan.Addresses {
		name := func(id uint32) string { return plan.Identities[id].Name }
		got = append(got, fmt.Sprintf("%s|%s|%s", name(a.Holder), a.Prefix, name(a.Identity)))
	}
	want := []string{
		"|198.18.0.0/16|far", "|198.18.0.1/32|router", "|198.18.0.10/32|plc", "|198.18.0.20/32|hmi",
		"|198.18.64.0/18|far", "|239.192.0.0/14|group:239.192.0.0/14",
		"hmi|198.18.0.20/32|hmi", "plc|198.18.0.10/32|plc",
		"router|198.18.0.0/16|far", "router|198.18.0.1/32|router",
		"router|198.18.0.10/32|", "router|198.18.0.20/32|", // neighbours: not for the router to use
		"router|198.18.64.0/18|far",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func TestGroups(t *testing.T) {
	rows := []struct {
		name, to string
		frame    [6]byte
		want     string // identity that the MAC address is of
		macs     int
	}{
		{"by name", `"group:profinet_dcp"`, [6]byte{1, 0x0e, 0xcf, 0, 0, 0}, "group:profinet_dcp", 1},
		{"a block", `"group:goose"`, [6]byte{1, 0x0c, 0xcd, 1, 1, 0xff}, "group:goose", 512},
		{"behind the block", `"group:goose"`, [6]byte{1, 0x0c, 0xcd, 1, 2, 0}, "", 512},
		{"by address", `"group:01:0c:cd:01:00:07"`, [6]byte{1, 0x0c, 0xcd, 1, 0, 7}, "group:01:0c:cd:01:00:07", 1},
		{"one inside another", `"group:goose", "group:01:0c:cd:01:00:07"`, [6]byte{1, 0x0c, 0xcd, 1, 0, 7}, "group:01:0c:cd:01:00:07", 512},
		{"the last address", `"group:33:32:ff:ff:ff:ff"`, [6]byte{0x33, 0x32, 0xff, 0xff, 0xff, 0xff}, "group:33:32:ff:ff:ff:ff", 1},
		{"two names of one", `"group:profinet_dcp", "group:01:0e:cf:00:00:00"`, [6]byte{1, 0x0e, 0xcf, 0, 0, 0}, "group:profinet_dcp", 1},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			plan := mustCompile(t, edit(t, base, "to: [plc]\n    protocol: tcp\n    ports: [443]",
				"to: ["+row.to+"]\n    protocol: ethertype\n    ethertypes: [goose]"))
			if got := plan.Identities[plan.byMAC(row.frame)].Name; got != row.want {
				t.Errorf("the address is of %q", got)
			}
			in := 0
			for _, e := range plan.MACs {
				if plan.Identities[e.Identity].Kind == KindGroup {
					in++
				}
				if e.MAC == row.frame && plan.Identities[e.Identity].Name != row.want {
					t.Errorf("the table says %q", plan.Identities[e.Identity].Name)
				}
			}
			if in != row.macs {
				t.Errorf("%d addresses of groups, want %d", in, row.macs)
			}
		})
	}
}

func TestCompileBounds(t *testing.T) {
	var ports []string
	for i := range 4096 {
		ports = append(ports, fmt.Sprint(1+2*i))
	}
	list := strings.Join(ports, ", ")
	text := edit(t, base, "from: [far]\n    to: [plc]\n    protocol: tcp\n    ports: [443]",
		"from: [far]\n    to: [plc]\n    protocol: tcp\n    ports: ["+list+"]\n"+
			"  - name: more\n    from: [far]\n    to: [plc]\n    protocol: tcp\n    ports: [60000]")
	_, err := mustParse(t, text).Compile("gate")
	want := `compile policy for gate: conduits such as "web" come to 4097 port ranges between two identities, and the limit is 4096: join neighbouring ports`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestPairsAreBounded(t *testing.T) {
	var ids, conduits strings.Builder
	for i := range 2200 {
		zone := "room"
		if i%2 == 0 {
			zone = "cell"
		}
		fmt.Fprintf(&ids, "  - {name: d%d, zone: %s, mac: \"02:01:00:00:%02x:%02x\"}\n", i, zone, i>>8, i&255)
		fmt.Fprintf(&conduits, "  - {name: c%d, from: [d%d], to: [%s], protocol: udp, ports: [9]}\n", i, i, map[bool]string{true: "hmi", false: "plc"}[i%2 == 0])
	}
	head, tail, _ := strings.Cut(base, "conduits:\n")
	text := head + ids.String() + "conduits:\n" + conduits.String() + "  - {name: wide, from: [zone:room], to: [zone:cell], protocol: udp, ports: [10]}\n" + tail
	_, err := mustParse(t, text).Compile("gate")
	if err == nil || !strings.Contains(err.Error(), "come to more than 1048576 pairs of identities: use zones instead of single identities") {
		t.Errorf("got %v", err)
	}
}
