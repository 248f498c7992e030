package identity

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	hmi  = Station{MAC: [6]byte{2, 0, 0, 0, 0, 0x20}, Address: netip.MustParseAddr("198.18.0.20"), Side: "b", Identity: "hmi-1"}
	plc  = Station{MAC: [6]byte{2, 0, 0, 0, 0, 0x10}, Address: netip.MustParseAddr("198.18.0.10"), Side: "a", Identity: "filler-plc"}
)

func stranger(n int) Station {
	return Station{MAC: [6]byte{6, 0, 0, 0, byte(n >> 8), byte(n)}, Side: "b"}
}

func after(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }

func TestAssetGathersWhatWasSeenOfIt(t *testing.T) {
	v := New()
	v.Saw(hmi, noon)
	tagged := hmi
	tagged.VLAN, tagged.Address = 10, netip.MustParseAddr("2001:db8::20")
	v.Saw(tagged, after(5))
	v.Saw(hmi, after(3)) // told late
	want := []Asset{{
		MAC: "02:00:00:00:00:20", Side: "b", Identity: "hmi-1", Addresses: []string{"198.18.0.20", "2001:db8::20"},
		VLANs: []uint16{10}, FirstSeen: noon, LastSeen: after(5),
	}}
	if diff := cmp.Diff(want, v.Snapshot().Assets); diff != "" {
		t.Error(diff)
	}
}

func TestBehindARouterEachAddressIsAnAsset(t *testing.T) {
	v := New()
	for i := range 3 {
		v.Saw(Station{MAC: hmi.MAC, Address: netip.AddrFrom4([4]byte{198, 18, 64, byte(i)}), Side: "b", Identity: "historian", Behind: true}, noon)
	}
	v.Saw(hmi, noon)
	if n := len(v.Snapshot().Assets); n != 4 {
		t.Errorf("%d assets, want the router and three behind it", n)
	}
}

func TestClaimsAddUp(t *testing.T) {
	v := New()
	v.Said(plc, Claim{Protocol: "modbus", Vendor: "Example", Seen: noon})
	v.Said(plc, Claim{Protocol: "modbus", Product: "X1", Revision: strings.Repeat("9", 2*MaxText), Seen: after(1)})
	v.Said(plc, Claim{Protocol: "cip", Serial: "0x0000002a", Seen: after(2)})
	want := []Claim{
		{Protocol: "modbus", Vendor: "Example", Product: "X1", Revision: strings.Repeat("9", MaxText), Seen: after(1)},
		{Protocol: "cip", Serial: "0x0000002a", Seen: after(2)},
	}
	if diff := cmp.Diff(want, v.Snapshot().Assets[0].Claims); diff != "" {
		t.Error(diff)
	}
	for i := range 2 * maxClaims {
		v.Said(plc, Claim{Protocol: fmt.Sprint(i), Seen: noon})
	}
	if s := v.Snapshot(); len(s.Assets[0].Claims) != maxClaims || s.LeftOut == 0 {
		t.Errorf("%d claims of one asset, %d left out", len(s.Assets[0].Claims), s.LeftOut)
	}
}

func talkOf(frames uint64, at time.Time) Talk {
	return Talk{Client: hmi, Server: plc, Protocol: "tcp", Port: 502, Conduit: "hmi-to-filler", Frames: frames, Bytes: 100 * frames, Answered: true, Seen: at}
}

func TestConversationsAddUpOverFlows(t *testing.T) {
	v := New()
	for step, look := range []struct {
		flows []uint64
		want  uint64
	}{
		{[]uint64{5, 7}, 12},
		{[]uint64{6, 8}, 14},
		{[]uint64{6}, 14}, // one has ended with the 8 that it had
		{nil, 14},
		{[]uint64{3}, 17},
	} {
		var all []Talk
		for _, n := range look.flows {
			all = append(all, talkOf(n, after(step)))
		}
		v.Talked(all)
		c := v.Snapshot().Conversations
		if len(c) != 1 || c[0].Frames != look.want || c[0].Bytes != 100*look.want {
			t.Errorf("look %d: %+v, want one with %d frames", step, c, look.want)
		}
	}
	if c := v.Snapshot().Conversations[0]; c.FirstSeen != noon || c.LastSeen != after(4) || c.Conduit != "hmi-to-filler" {
		t.Errorf("%+v", c)
	}
}

func TestWhoOnlyWasSpokenToIsNoAsset(t *testing.T) {
	v := New()
	silent := talkOf(1, noon)
	silent.Answered = false
	v.Talked([]Talk{silent})
	if a := v.Snapshot().Assets; len(a) != 1 || a[0].Identity != "hmi-1" {
		t.Errorf("assets %+v, want the client alone", a)
	}
}

// TestStrangersCannotPushOutADevice is invariant 8 here: everything is bounded, and full has a
// named behaviour and a counter.
func TestStrangersCannotPushOutADevice(t *testing.T) {
	v := New()
	v.Saw(plc, noon)
	for i := range MaxAssets + 100 {
		v.Saw(stranger(i), after(i))
	}
	s := v.Snapshot()
	if len(s.Assets) != MaxAssets || s.LeftOut != 101 {
		t.Fatalf("%d assets, %d left out", len(s.Assets), s.LeftOut)
	}
	v.Saw(hmi, after(1))
	names := map[string]bool{}
	oldest := true
	for _, a := range v.Snapshot().Assets {
		names[a.Identity] = true
		oldest = oldest && a.MAC != "06:00:00:00:00:00"
	}
	if !names["filler-plc"] || !names["hmi-1"] || !oldest {
		t.Errorf("known %v, the stranger seen least recently gone: %v", names, oldest)
	}
}

func TestConversationsAndAddressesAreBounded(t *testing.T) {
	v := New()
	var all []Talk
	for i := range MaxConversations + 10 {
		one := talkOf(1, noon)
		one.Port = uint16(i)
		all = append(all, one)
	}
	v.Talked(all)
	if s := v.Snapshot(); len(s.Conversations) != MaxConversations || s.LeftOut != 10 {
		t.Errorf("%d conversations, %d left out", len(s.Conversations), s.LeftOut)
	}
	for i := range MaxAddresses + 10 {
		router := hmi
		router.Address = netip.AddrFrom4([4]byte{198, 19, 0, byte(i)})
		v.Saw(router, noon)
	}
	for _, a := range v.Snapshot().Assets {
		if a.Identity == "hmi-1" && (len(a.Addresses) != MaxAddresses || a.MoreAddresses != 11) {
			t.Errorf("%d addresses, %d more", len(a.Addresses), a.MoreAddresses)
		}
	}
}

// TestRestoreContinues holds that what was written down reads as it was, and that it goes on.
func TestRestoreContinues(t *testing.T) {
	before := New()
	before.Said(plc, Claim{Protocol: "modbus", Vendor: "Example", Seen: noon})
	before.Saw(Station{MAC: hmi.MAC, Address: netip.MustParseAddr("198.18.64.9"), Side: "b", Identity: "historian", Behind: true}, noon)
	before.Talked([]Talk{talkOf(5, noon)})
	raw, err := json.Marshal(before.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	var read Snapshot
	if err := json.Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	v := New()
	v.Restore(read)
	if diff := cmp.Diff(before.Snapshot(), v.Snapshot()); diff != "" {
		t.Fatal(diff)
	}
	v.Talked([]Talk{talkOf(2, after(9))})
	if s := v.Snapshot(); len(s.Assets) != 3 || len(s.Conversations) != 1 || s.Conversations[0].Frames != 7 || s.Conversations[0].FirstSeen != noon {
		t.Errorf("%d assets, conversations %+v", len(s.Assets), s.Conversations)
	}
}

func TestRestoreLeavesOutWhatCannotBe(t *testing.T) {
	v := New()
	v.Restore(Snapshot{
		Assets:        []Asset{{MAC: "nonsense"}, {MAC: "02:00:00:00:00:20", Behind: true}, {MAC: "02:00:00:00:00:21", Behind: true, Addresses: []string{"x"}}},
		Conversations: []Conversation{{ClientMAC: "02:00:00:00:00:20", ServerMAC: ""}, {ClientMAC: "02:00:00:00:00:20", ServerMAC: "02:00:00:00:00:10", ClientAddress: "300.1.1.1"}},
	})
	if s := v.Snapshot(); len(s.Assets)+len(s.Conversations) != 0 {
		t.Errorf("%+v", s)
	}
}
