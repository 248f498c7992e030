package policy

import (
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/verdict"
)

// TestLLC permits IEEE 802.3 frames by their name and nothing else with it.
func TestLLC(t *testing.T) {
	text := strings.Replace(limitPolicy("{frames: 5/s}", "{broadcast: {frames: 5/s}}"),
		"protocol: tcp, ports: [4840]", "protocol: ethertype, ethertypes: [llc]", 1)
	p, err := Parse("llc.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Compile("gate")
	if err != nil {
		t.Fatal(err)
	}
	h := Header{Src: [6]byte{2, 0, 0, 0, 0, 0x20}, Dst: [6]byte{2, 0, 0, 0, 0, 0x10}, Side: SideB}
	if d := plan.Decide(&h); d.Verdict != verdict.Permitted {
		t.Errorf("an 802.3 frame: %v", d.Verdict)
	}
	h.EtherType = 0x8892
	if d := plan.Decide(&h); d.Verdict != verdict.Denied(verdict.ReasonNoConduit) {
		t.Errorf("another EtherType: %v", d.Verdict)
	}
}
