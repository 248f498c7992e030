package policy

import (
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/internal/verdict"
)

// apiVersion is the one version of the language that is understood.
const apiVersion = "penstock/v1"

// Policy is a policy file as read and checked. Every name in it refers to something, every default
// has been filled in. It does not change.
type Policy struct {
	File string
	Hash string // SHA-256 of the file's bytes, lower-case hex
	Site string // may be empty
	Mode Mode   // the ceiling for every conduit

	Defaults   Defaults
	Appliances []ApplianceSpec
	Zones      []ZoneSpec
	Identities []IdentitySpec
	Conduits   []ConduitSpec
}

// Defaults are the exceptions to "what no conduit permits is denied", and what a conduit does when
// it does not say.
type Defaults struct {
	OnOutage        OnOutage
	OnDeny          OnDeny
	OnJoin          OnJoin
	UnknownIdentity verdict.Action // Deny or Allow
	IntraZone       verdict.Action // Deny or Allow
	ARPGuard        bool
	LinkLocal       verdict.Action // Deny or Allow

	// Broadcast and Multicast bound what floods, Control what is permitted on link-local groups, for
	// each port by itself; zero is no limit.
	Broadcast, Multicast, Control Limit
}

// Reference is the name of something else in the policy.
type Reference struct {
	Name string // empty where the key is absent
	at   pos
}

// ApplianceSpec says which zones lie on which side of an appliance.
type ApplianceSpec struct {
	Name string
	A, B []Reference
	// OnPowerLoss is what its relay does without power, for every conduit that crosses it.
	OnPowerLoss OnOutage

	at       pos
	hasRelay bool // on_power_loss is there
	bad      bool // something of it could not be read, so where zones lie is not known
}

// ZoneSpec is a zone.
type ZoneSpec struct {
	Name        string
	SLTarget    SecurityLevel // 0 where it is not given
	PurdueLevel float64       // 0 to 5 in halves, or -1 where it is not given

	at pos
}

// IdentitySpec is a device.
type IdentitySpec struct {
	Name      string
	Zone      Reference
	Role      string
	MAC       [6]byte // zero for one behind a router
	Addresses []netip.Prefix
	VLANs     []uint16
	Untagged  bool
	Via       Reference // the router whose MAC its frames carry
	Side      Side      // SideAny unless given, which only a zone on both sides needs

	at, macAt, sideAt, vlanAt pos
	addressAt                 []pos
	hasMAC, hasAddresses      bool // the key is there, right or wrong
}

// roleRouter is the one role with a meaning here: others may be behind such a device.
const roleRouter = "router"

// SelectorKind tells what a selector names.
type SelectorKind uint8

// The kinds of selectors.
const (
	SelectIdentity SelectorKind = iota
	SelectZone
	SelectBroadcast
	SelectGroup
)

// Selector is one element of a conduit's from or to.
type Selector struct {
	Kind SelectorKind
	Name string // of the identity, zone or group; as written for a group: "239.192.0.0/14"

	group group
	at    pos
}

// String writes the selector as the policy does.
func (s Selector) String() string {
	switch s.Kind {
	case SelectZone:
		return zonePrefix + s.Name
	case SelectGroup:
		return groupPrefix + s.Name
	}
	return s.Name
}

const (
	zonePrefix    = "zone:"
	groupPrefix   = "group:"
	broadcastName = "broadcast"
)

// ConduitSpec is a conduit.
type ConduitSpec struct {
	Name     string
	From, To []Selector
	Protocol Protocol
	Services []Service
	Mode     Mode // never above the policy's
	OnOutage OnOutage
	OnDeny   OnDeny
	OnJoin   OnJoin
	Limit    Limit // zero is no limit

	// Essential marks a conduit that an essential function crosses (IEC 62443-3-3 5.2 RE 3): it
	// may close in an outage only where SecondPath names how the function goes on.
	Essential  bool
	SecondPath string

	// SLTarget is the conduit's own target, or the highest of its zones'.
	SLTarget SecurityLevel
	Waiver   *Waiver // nil if none

	// The rules, in the list of the conduit's protocol.
	Modbus []ModbusRule
	DNP3   []DNP3Rule
	ENIP   []ENIPRule

	at, outageAt   pos
	hasSLTarget    bool
	fromBad, toBad bool // an element could not be read, so the rest proves nothing
}

// Waiver is an owner's acceptance of a conduit that opens in an outage although its target is 3 or
// more. That it has not expired is for whoever knows the time: see CheckWaivers.
type Waiver struct {
	Owner        string
	Expires      time.Time // the last day on which it holds, at midnight UTC
	Compensating string
}

// Inspected tells whether the protocol has messages for rules to judge.
func (p Protocol) Inspected() bool {
	return p == ProtocolModbus || p == ProtocolDNP3 || p == ProtocolENIP
}

// String returns the protocol's name in a policy.
func (p Protocol) String() string { return nameOf(protocolWords(), p) }

// String returns the mode's name in a policy.
func (m Mode) String() string { return nameOf(modeWords(), m) }

// String returns "a", "b" or "any".
func (s Side) String() string { return nameOf(sideWords(), s) }

// String returns "open" or "closed".
func (o OnOutage) String() string { return nameOf(outageWords(), o) }

// String returns "drop", "reset" or "exception".
func (d OnDeny) String() string { return nameOf(denyWords(), d) }

// String returns "reset" or "resync".
func (j OnJoin) String() string { return nameOf(joinWords(), j) }

func nameOf[T comparable](words []word[T], value T) string {
	for _, w := range words {
		if w.value == value {
			return w.name
		}
	}
	return "unknown"
}

func protocolWords() []word[Protocol] {
	return []word[Protocol]{
		{"modbus", ProtocolModbus}, {"dnp3", ProtocolDNP3}, {"enip", ProtocolENIP},
		{"tcp", ProtocolTCP}, {"udp", ProtocolUDP}, {"icmp", ProtocolICMP},
		{"ethertype", ProtocolEtherType},
	}
}

func modeWords() []word[Mode] {
	return []word[Mode]{{"discover", Discover}, {"observe", Observe}, {"enforce", Enforce}}
}

func sideWords() []word[Side] { return []word[Side]{{"a", SideA}, {"b", SideB}, {"any", SideAny}} }

func outageWords() []word[OnOutage] {
	return []word[OnOutage]{{"open", OutageOpen}, {"closed", OutageClosed}}
}

func denyWords() []word[OnDeny] {
	return []word[OnDeny]{{"drop", DenyDrop}, {"reset", DenyReset}, {"exception", DenyException}}
}

func joinWords() []word[OnJoin] {
	return []word[OnJoin]{{"resync", JoinResync}, {"reset", JoinReset}}
}

func permitWords() []word[verdict.Action] {
	return []word[verdict.Action]{{"permit", verdict.Allow}, {"deny", verdict.Deny}}
}

// Lapsed reports whether the waiver does not hold any more at the time given.
func (w *Waiver) Lapsed(now time.Time) bool { return !now.Before(w.Expires.AddDate(0, 0, 1)) }

// CheckWaivers says of each conduit that opens in an outage by a waiver which does not hold any more at the
// time given what to do about it. Parse does not: a policy that was right when it was put in force goes on.
func (p *Policy) CheckWaivers(now time.Time) error {
	r := report{file: p.File}
	for i := range p.Conduits {
		c := &p.Conduits[i]
		if !needsWaiver(c.SLTarget, c.OnOutage) || c.Waiver == nil || !c.Waiver.Lapsed(now) {
			continue
		}
		r.errorf(c.outageAt, "conduit %q has a target of SL %d and opens in an outage by a waiver that expired on %s: "+
			"write on_outage: closed, or have its owner renew it", c.Name, c.SLTarget.RestrictedDataFlow(), c.Waiver.Expires.Format(time.DateOnly))
	}
	return r.err()
}

// needsWaiver reports whether a conduit of that target may do in an outage what it does only with a waiver (IEC 62443-3-3 SR
// 5.2 RE 3).
func needsWaiver(target SecurityLevel, choice OnOutage) bool {
	return target.RestrictedDataFlow() >= 3 && choice == OutageOpen
}

// WaiverLapsed reports whether the conduit opens in an outage by a waiver that does not hold any more.
func (c *Conduit) WaiverLapsed(now time.Time) bool {
	w := c.Assurance.Waiver
	return needsWaiver(c.Assurance.SLTarget, c.OnOutage) && w != nil && w.Lapsed(now)
}
