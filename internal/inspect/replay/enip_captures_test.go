package replay

import (
	"path/filepath"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

func enipCaptures(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(sharedCaptures + "/enip/*.pcap*")
	if err != nil || len(files) == 0 {
		t.Skipf("no captures: %s is absent", sharedCaptures)
	}
	return append(files, sharedCaptures+"/peers/cip-matrix-gologix.pcap", sharedCaptures+"/peers/enip-io-npm-opener.pcap")
}

// permitENIP judges a capture by rules that permit every command, service and I/O connection, and all
// routes of one hop.
func permitENIP(t *testing.T, path string, inline bool) *Assessment {
	t.Helper()
	var rule policy.ENIPRule
	for code := range 0x80 {
		rule.Services = append(rule.Services, policy.CIPService{Code: uint8(code)})
	}
	for port := range 16 {
		for link := range 256 {
			rule.Routes = append(rule.Routes, []policy.Hop{{Port: uint16(port), Link: uint8(link)}})
		}
	}
	// In one of the captures the session ends, and both ends go on with the I/O.
	rule.IO = &policy.IOConnection{Assemblies: policy.Spans{{Low: 0, High: 0xffff}}, OutliveSession: true}
	commands := policy.ENIPRule{}
	for _, c := range enip.Commands() {
		commands.Commands = append(commands.Commands, c.Command)
	}
	plain := rule // a rule with a route does not permit what has none
	plain.Routes = nil
	plan := anything()
	plan.Conduits[enipConduit].ENIP = []policy.ENIPRule{plain, rule, commands}
	a := newAssessor(plan)
	a.player.inline = inline
	a.decide = func(h *policy.Header) policy.Decision {
		if h.DstPort == enipPort || h.Protocol == 17 && h.DstPort == enipIOPort && !inline {
			return policy.Decision{Verdict: verdict.Verdict{Action: verdict.Inspect, Reason: verdict.ReasonPermitted}, Conduit: enipConduit}
		}
		return policy.Decision{Verdict: verdict.Permitted}
	}
	a.adopt = true
	result, err := a.run([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// dirtyENIPCaptures are those in which something is denied for good reason, and how many messages that is.
var dirtyENIPCaptures = map[string]uint64{
	// A server that answers list_services with the command send_rr_data (frame 45): the item's count and
	// type stand where the interface handle has to be.
	"cip-matrix-gologix.pcap": 1,
}

func TestCleanENIPCapturesHaveNoFalseDenial(t *testing.T) {
	for _, path := range enipCaptures(t) {
		base := filepath.Base(path)
		t.Run(base, func(t *testing.T) {
			a := permitENIP(t, path, false)
			t.Logf("%d messages, %d unjudged segments", a.Messages, a.Unjudged)
			if a.Denied != dirtyENIPCaptures[base] {
				t.Errorf("%d denied, want %d", a.Denied, dirtyENIPCaptures[base])
				logDenials(t, a)
			}
			if a.Messages == 0 || a.Messages != a.Allowed+a.Denied {
				t.Errorf("%d messages, %d allowed, %d denied", a.Messages, a.Allowed, a.Denied)
			}
		})
	}
}

func TestCleanENIPCapturesPassInline(t *testing.T) {
	for _, path := range enipCaptures(t) {
		base := filepath.Base(path)
		if dirtyENIPCaptures[base] != 0 {
			continue
		}
		t.Run(base, func(t *testing.T) {
			a := permitENIP(t, path, true)
			if a.Denied != 0 || a.Unjudged != 0 {
				t.Errorf("%d denied, %d segments held", a.Denied, a.Unjudged)
				logDenials(t, a)
			}
		})
	}
}
