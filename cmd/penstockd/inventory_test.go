package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/identity"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestDiscoverKnowsDevicesConversationsAndClaims: who is there, who speaks with whom, and what a
// device says of itself; a stranger's denied frames show the stranger. The next daemon knows it, too.
func TestDiscoverKnowsDevicesConversationsAndClaims(t *testing.T) {
	p := lay(t, plant.Options{Policy: site{conduits: []string{modbusConduit("resets", resetPort, "on_deny: reset") +
		"\n  - {functions: [43], units: [1]}"}}.String()})
	startStation(t, p.Filler, resetPort)
	conn := socketTo(t, p.HMI, p.Filler, resetPort)
	if err := ask(conn, mbap(1, 1, pdu(43, []byte{14, 1, 0})), patience); err != nil {
		t.Fatal(err)
	}
	var seen identity.Snapshot
	eventually(t, "the device's word to be known", func() bool {
		seen = inventoryOf(t, p)
		return slices.ContainsFunc(seen.Assets, func(a identity.Asset) bool { return len(a.Claims) > 0 }) &&
			slices.ContainsFunc(seen.Conversations, func(c identity.Conversation) bool { return c.Frames >= 4 })
	})
	plc, hmi := assetOf(seen, "filler-plc"), assetOf(seen, "hmi-1")
	if plc == nil || hmi == nil {
		t.Fatalf("assets %+v, want both ends", seen.Assets)
	}
	claim := plc.Claims[0]
	claim.Seen = time.Time{}
	if want := (identity.Claim{Protocol: "modbus", Vendor: "Example", Product: "X1", Revision: "2.7"}); claim != want {
		t.Errorf("the device's claim is %+v, want %+v", claim, want)
	}
	if plc.Side != "a" || plc.MAC != testnet.CellMAC || !slices.Contains(plc.Addresses, testnet.CellAddress) || len(hmi.Claims) > 0 {
		t.Errorf("filler-plc %+v, hmi-1 %+v", plc, hmi)
	}
	if len(seen.Conversations) != 1 || seen.Conversations[0].Port != resetPort || seen.Conversations[0].Conduit != "resets" ||
		seen.Conversations[0].Client != "hmi-1" || seen.Conversations[0].Server != "filler-plc" || seen.Conversations[0].Frames < 4 {
		t.Errorf("conversations %+v", seen.Conversations)
	}
	flows := flowsOf(t, p)
	if len(flows) != 1 || flows[0].Source != "hmi-1" || flows[0].Verdict != "inspect" || flows[0].FramesReceived == 0 ||
		flows[0].SourceAddress != conn.LocalAddr().String() || !strings.HasPrefix(flows[0].DestinationAddress, testnet.CellAddress) {
		t.Errorf("flows %+v", flows)
	}

	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	start(t, p)
	if after := assetOf(inventoryOf(t, p), "filler-plc"); after == nil || len(after.Claims) != 1 || !after.FirstSeen.Equal(plc.FirstSeen) {
		t.Errorf("after a restart filler-plc is %+v, before it was %+v", after, plc)
	}
}

// TestDiscoverKnowsACIPDevice: who reads its Identity object, or asks it who it is over TCP, tells it to discover.
func TestDiscoverKnowsACIPDevice(t *testing.T) {
	p := layIO(t, plant.Options{Policy: site{conduits: []string{cyclicConduit("100, 150, 151") + "\n  - {commands: [list_identity]}"}}.String()})
	claimed := func(what string) {
		t.Helper()
		eventually(t, what, func() bool {
			plc := assetOf(inventoryOf(t, p.Plant), "filler-plc")
			if plc == nil || len(plc.Claims) != 1 {
				return false
			}
			c := plc.Claims[0]
			return c.Protocol == "cip" && c.Vendor != "" && c.Type != "" && c.Product != "" && c.Revision != "" && c.Serial != ""
		})
	}
	if err := p.connect(t).Identity(); err != nil {
		t.Fatal(err)
	}
	claimed("what its Identity object says to be known")
	first := *assetOf(inventoryOf(t, p.Plant), "filler-plc")
	conn := socketTo(t, p.HMI, p.Filler, 44818)
	if _, err := conn.Write(ct.Encapsulate(0x63, 0, 7, nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its reply to ListIdentity to be known", func() bool {
		plc := assetOf(inventoryOf(t, p.Plant), "filler-plc")
		return plc.Claims[0].Seen.After(first.Claims[0].Seen)
	})
	claimed("the same of both")
}

func inventoryOf(t *testing.T, p *plant.Plant) identity.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := p.Client().Inventory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func flowsOf(t *testing.T, p *plant.Plant) (list []api.Flow) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := p.Client().Flows(ctx, func(f api.Flow) error {
		list = append(list, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func assetOf(s identity.Snapshot, name string) *identity.Asset {
	i := slices.IndexFunc(s.Assets, func(a identity.Asset) bool { return a.Identity == name })
	if i < 0 {
		return nil
	}
	return &s.Assets[i]
}
