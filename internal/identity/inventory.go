package identity

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// The bounds of an inventory.
const (
	MaxAssets        = 4096
	MaxConversations = 16384
	MaxAddresses     = 64 // of one asset
	maxVLANs         = 16
	maxClaims        = 8
)

// Station says where a frame came from.
type Station struct {
	MAC     [6]byte
	Address netip.Addr // invalid where the frame has none
	Side    string     // "a" or "b"
	VLAN    uint16     // the outermost tag's; 0 is untagged
	// Identity is the policy's name for it, empty where it has none.
	Identity string
	// Behind says that the identity is told apart by address, because the MAC is a router's.
	Behind bool
}

// Asset is one device: a MAC address, or an address behind a router's.
type Asset struct {
	MAC       string    `json:"mac"`
	Side      string    `json:"side"`
	Identity  string    `json:"identity"` // empty: the policy does not know it
	Behind    bool      `json:"behind_router,omitempty"`
	Addresses []string  `json:"addresses"`
	VLANs     []uint16  `json:"vlans,omitempty"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
	Claims    []Claim   `json:"claims,omitempty"`
	// MoreAddresses counts the times at which another address found no room.
	MoreAddresses uint64 `json:"more_addresses,omitempty"`
}

// Talk is one live flow.
type Talk struct {
	Client, Server Station
	Protocol       string // "tcp", "udp", "icmp", "ethertype 0x8892"
	Port           uint16 // the server's; 0 where the protocol has none
	Conduit        string // empty where none covers it
	Frames, Bytes  uint64 // of a flow that is alive, both directions
	Answered       bool   // the server has sent something
	Seen           time.Time
}

// Conversation is all flows between two ends to one service. Frames and bytes, of both directions,
// are at least that many: a flow that ended between two looks is counted as it was at the last one.
type Conversation struct {
	Client        string    `json:"client"` // the policy's names, empty where there is none
	Server        string    `json:"server"`
	ClientMAC     string    `json:"client_mac"`
	ServerMAC     string    `json:"server_mac"`
	ClientAddress string    `json:"client_address,omitempty"`
	ServerAddress string    `json:"server_address,omitempty"`
	Protocol      string    `json:"protocol"`
	Port          uint16    `json:"port,omitempty"`
	Conduit       string    `json:"conduit"`
	Frames        uint64    `json:"frames"`
	Bytes         uint64    `json:"bytes"`
	FirstSeen     time.Time `json:"first_seen"`
	LastSeen      time.Time `json:"last_seen"`
}

// Snapshot is an inventory at one moment, in an order that does not change by itself.
type Snapshot struct {
	Assets        []Asset        `json:"assets"`
	Conversations []Conversation `json:"flows"`
	// LeftOut counts what found no room: sightings of assets and of conversations.
	LeftOut uint64 `json:"left_out"`
}

type assetKey struct {
	mac     [6]byte
	address netip.Addr // of what is behind a router
}

type talkKey struct {
	client, server [6]byte
	addresses      [2]netip.Addr
	protocol       string
	port           uint16
}

type talk struct {
	Conversation
	live, past [2]uint64 // frames and bytes
}

// Inventory collects. It is safe for concurrent use; each call is short.
type Inventory struct {
	mu      sync.Mutex
	assets  map[assetKey]*Asset
	talks   map[talkKey]*talk
	leftOut uint64
}

// New returns an inventory that knows nothing.
func New() *Inventory {
	return &Inventory{assets: map[assetKey]*Asset{}, talks: map[talkKey]*talk{}}
}

// Saw notes that a station sent something.
func (v *Inventory) Saw(s Station, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asset(s, at)
}

// Said notes what a station says of itself.
func (v *Inventory) Said(s Station, c Claim) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.asset(s, c.Seen)
	if a == nil {
		return
	}
	i := slices.IndexFunc(a.Claims, func(known Claim) bool { return known.Protocol == c.Protocol })
	if i < 0 {
		if len(a.Claims) == maxClaims {
			v.leftOut++
			return
		}
		i = len(a.Claims)
		a.Claims = append(a.Claims, Claim{Protocol: cut(c.Protocol)})
	}
	a.Claims[i].merge(c)
}

// Talked replaces what is known of the conversations that are alive by what was found at one look
// at all of them. Flows of one conversation may come in any number.
func (v *Inventory) Talked(all []Talk) {
	v.mu.Lock()
	defer v.mu.Unlock()
	sums := map[*talk][2]uint64{}
	for i := range all {
		t := &all[i]
		known := v.talk(t)
		if known == nil {
			continue
		}
		sum := sums[known]
		sums[known] = [2]uint64{sum[0] + t.Frames, sum[1] + t.Bytes}
	}
	for _, known := range v.talks {
		known.settle(sums[known])
	}
}

// settle takes the new sum over living flows. Where it is smaller than the last one, flows have
// ended, and what they had is kept.
func (t *talk) settle(live [2]uint64) {
	for i := range live {
		if live[i] < t.live[i] {
			t.past[i] += t.live[i] - live[i]
		}
		t.live[i] = live[i]
	}
	t.Frames, t.Bytes = t.past[0]+t.live[0], t.past[1]+t.live[1]
}

// Snapshot returns a copy of everything.
func (v *Inventory) Snapshot() Snapshot {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := Snapshot{
		Assets:        make([]Asset, 0, len(v.assets)),
		Conversations: make([]Conversation, 0, len(v.talks)),
		LeftOut:       v.leftOut,
	}
	for _, a := range v.assets {
		c := *a
		c.Addresses, c.VLANs, c.Claims = slices.Clone(a.Addresses), slices.Clone(a.VLANs), slices.Clone(a.Claims)
		s.Assets = append(s.Assets, c)
	}
	for _, t := range v.talks {
		s.Conversations = append(s.Conversations, t.Conversation)
	}
	s.sort()
	return s
}

func (s *Snapshot) sort() {
	slices.SortFunc(s.Assets, func(a, b Asset) int {
		return cmp.Or(cmp.Compare(a.Side, b.Side), cmp.Compare(a.MAC, b.MAC), slices.Compare(a.Addresses, b.Addresses))
	})
	slices.SortFunc(s.Conversations, func(a, b Conversation) int {
		return cmp.Or(
			cmp.Compare(a.ClientMAC, b.ClientMAC), cmp.Compare(a.ClientAddress, b.ClientAddress),
			cmp.Compare(a.ServerMAC, b.ServerMAC), cmp.Compare(a.ServerAddress, b.ServerAddress),
			cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
}

// Restore takes up what an earlier inventory knew. What this one knows already stays as it is, and
// entries that cannot have come from an inventory are left out.
func (v *Inventory) Restore(s Snapshot) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range s.Assets {
		key, ok := a.key()
		if !ok || v.assets[key] != nil {
			continue
		}
		if len(v.assets) == MaxAssets {
			break
		}
		a.Addresses = a.Addresses[:min(len(a.Addresses), MaxAddresses)]
		a.VLANs = a.VLANs[:min(len(a.VLANs), maxVLANs)]
		a.Claims = a.Claims[:min(len(a.Claims), maxClaims)]
		v.assets[key] = &a
	}
	for _, c := range s.Conversations {
		key, ok := c.key()
		if !ok || v.talks[key] != nil {
			continue
		}
		if len(v.talks) == MaxConversations {
			break
		}
		v.talks[key] = &talk{Conversation: c, past: [2]uint64{c.Frames, c.Bytes}}
	}
	v.leftOut += s.LeftOut
}
