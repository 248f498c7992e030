package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ot/penstock/internal/verdict"
)

const islandPolicy = `api_version: penstock/v1
mode: enforce
appliances:
  - name: gate
    sides: {a: [cell, annexe], b: [room, office]}
defaults: {unknown_identity: permit}
zones:
  - {name: cell}
  - {name: annexe}
  - {name: room}
  - {name: office}
identities:
  - {name: plc, zone: cell, mac: "02:00:00:00:00:10", ip: [198.18.0.10]}
  - {name: rtu, zone: annexe, mac: "02:00:00:00:00:11", ip: [198.18.0.11]}
  - {name: hmi, zone: room, mac: "02:00:00:00:00:20", ip: [198.18.0.20]}
  - {name: clerk, zone: office, mac: "02:00:00:00:00:21", ip: [198.18.0.21]}
conduits:
  - {name: safety, from: [hmi], to: [plc], protocol: tcp, ports: [1], essential: true, on_outage: open}
  - {name: poll, from: [hmi], to: [plc], protocol: tcp, ports: [2]}
  - {name: both, from: [hmi], to: [plc, rtu], protocol: tcp, ports: [3]}
  - {name: zones, from: ["zone:office"], to: ["zone:cell", "zone:annexe"], protocol: tcp, ports: [4]}
  - {name: others, from: [clerk], to: [rtu], protocol: tcp, ports: [5]}
  - {name: shout, from: [hmi], to: [broadcast], protocol: udp, ports: [6]}
  - {name: answer, from: ["zone:annexe"], to: [broadcast], protocol: udp, ports: [7]}
`

// left lists conduits as "name: from > to".
func left(p *Policy) (list []string) {
	for i := range p.Conduits {
		c := &p.Conduits[i]
		names := func(selectors []Selector) string {
			var all []string
			for _, s := range selectors {
				all = append(all, s.String())
			}
			return strings.Join(all, " ")
		}
		list = append(list, c.Name+": "+names(c.From)+" > "+names(c.To))
	}
	return list
}

func TestIslandClosesWhatIsNotEssential(t *testing.T) {
	p := mustParse(t, islandPolicy)
	for _, row := range []struct {
		zones []string
		want  []string
	}{
		{[]string{"cell"}, []string{
			"safety: hmi > plc", "both: hmi > rtu", "zones: zone:office > zone:annexe", "others: clerk > rtu", "answer: rtu > broadcast",
		}},
		{[]string{"office"}, []string{
			"safety: hmi > plc", "poll: hmi > plc", "both: hmi > plc rtu", "shout: hmi > broadcast",
		}},
		{[]string{"cell", "office"}, []string{"safety: hmi > plc", "both: hmi > rtu"}},
	} {
		t.Run(strings.Join(row.zones, "+"), func(t *testing.T) {
			island, err := p.Island("gate", row.zones...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, left(island)); diff != "" {
				t.Error(diff)
			}
			if island.Defaults.UnknownIdentity != verdict.Deny || len(p.Conduits) != 7 || p.Defaults.UnknownIdentity != verdict.Allow {
				t.Error("strangers pass, or the policy itself changed")
			}
			if _, err := island.Compile("gate"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestIslandSaysWhyNot(t *testing.T) {
	observing := mustParse(t, strings.Replace(islandPolicy, "mode: enforce", "mode: observe", 1))
	if _, err := observing.Island("gate", "cell"); err == nil || !strings.Contains(err.Error(), "holds nothing back") {
		t.Errorf("of a policy that observes: %v", err)
	}
	p := mustParse(t, islandPolicy)
	if _, err := p.Island("gate", "cellar"); err == nil || !strings.Contains(err.Error(), "cell, annexe, room") {
		t.Errorf("of a zone that is not there: %v", err)
	}
	if _, err := p.Island("gat", "cell"); err == nil {
		t.Error("an appliance that is not there")
	}
	if got := zonesOf(&p.Appliances[0]); !slices.Equal(got, []string{"cell", "annexe", "room", "office"}) {
		t.Error(got)
	}
}
