package policy

import (
	"strings"
	"testing"
)

// limitPolicy is a policy with a limit on its conduit and one on broadcast.
func limitPolicy(limit, storm string) string {
	return `
api_version: penstock/v1
site: limits
mode: enforce
appliances:
  - {name: gate, sides: {a: [cell], b: [plant]}}
defaults:
  storm: ` + storm + `
zones: [{name: cell}, {name: plant}]
identities:
  - {name: plc, zone: cell, mac: "02:00:00:00:00:10", ip: [198.18.0.10]}
  - {name: hmi, zone: plant, mac: "02:00:00:00:00:20", ip: [198.18.0.20]}
conduits:
  - {name: opc, from: [hmi], to: [plc], protocol: tcp, ports: [4840], limit: ` + limit + `}
`
}

func TestLimits(t *testing.T) {
	for _, r := range []struct {
		limit string
		want  Limit
	}{
		{"{frames: 500/s}", Limit{Frames: 500, FrameBurst: 500}},
		{"{frames: 20k/s, burst: 100ms}", Limit{Frames: 20_000, FrameBurst: 2000}},
		{"{bytes: 2M/s}", Limit{Bytes: 2_000_000, ByteBurst: 2_000_000}},
		{"{frames: 10/s, bytes: 1k/s, burst: 2s}", Limit{Frames: 10, FrameBurst: 20, Bytes: 1000, ByteBurst: 2000}},
		{"{frames: 1/s, burst: 20ms}", Limit{Frames: 1, FrameBurst: 1}},
	} {
		p, err := Parse("limits.yaml", []byte(limitPolicy(r.limit, "{broadcast: {frames: 7/s}, link_local: {bytes: 3k/s}}")))
		if err != nil {
			t.Errorf("%s: %v", r.limit, err)
			continue
		}
		plan, err := p.Compile("gate")
		if err != nil {
			t.Fatal(err)
		}
		if got := plan.Conduits[1].Limit; got != r.want {
			t.Errorf("%s: %+v, want %+v", r.limit, got, r.want)
		}
		if plan.Broadcast.Frames != 7 || !plan.Multicast.IsZero() || plan.Control.Bytes != 3000 {
			t.Errorf("storm limits are %+v, %+v and %+v", plan.Broadcast, plan.Multicast, plan.Control)
		}
	}
}

func TestWrongLimits(t *testing.T) {
	for _, r := range []struct{ limit, storm, want string }{
		{"{}", "{}", "limits.yaml:14:"},
		{"{frames: 500}", "{}", "frames cannot be"},
		{"{frames: 0/s}", "{}", "frames cannot be"},
		{"{frames: 200M/s}", "{}", "frames cannot be"},
		{"{frames: 99999999999999999999/s}", "{}", "frames cannot be"},
		{"{bytes: 5X/s}", "{}", "bytes cannot be"},
		{"{frames: 5/s, burst: 1ms}", "{}", "burst cannot be below"},
		{"{frames: 5/s, burst: 2h}", "{}", "burst cannot be"},
		{"{frame: 5/s}", "{}", "no key \"frame\""},
		{"{frames: 5/s}", "{broadcast: {frames: x}}", "limits.yaml:8:"},
		{"{frames: 5/s}", "{unicast: {frames: 5/s}}", "no key \"unicast\""},
	} {
		_, err := Parse("limits.yaml", []byte(limitPolicy(r.limit, r.storm)))
		if err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s %s: %v, want %q", r.limit, r.storm, err, r.want)
		}
	}
}
