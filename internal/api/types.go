// Package api is how people reach a running penstockd: HTTP and JSON over a local socket. The
// server knows who is at the other end, because changes are recorded with a name, and nothing
// that a client does or leaves undone can hold up the daemon: bodies, connections, followers
// and the time that each may take are bounded.
package api

import (
	"time"

	"github.com/penstock-ot/penstock/internal/outage"
)

// Status is what `penstock status --json` prints. Its keys are a published interface.
type Status struct {
	Name    string       `json:"name"`    // the appliance
	Version string       `json:"version"` // of the daemon
	PID     int          `json:"pid"`     // of the daemon, as its own process namespace has it
	Netns   string       `json:"netns"`   // of ports and bridge, by name; empty is the daemon's own
	Started time.Time    `json:"started"`
	Mode    string       `json:"mode"` // discover, observe or enforce
	Policy  PolicyStatus `json:"policy"`

	Ports    []PortStatus    `json:"ports"`
	Outage   OutageStatus    `json:"outage"`
	Islands  []Island        `json:"islands"`
	Conduits []ConduitStatus `json:"conduits"`
	Queues   []QueueStatus   `json:"queues"`
	IO       IOStatus        `json:"io"`
	Events   EventStatus     `json:"events"`

	// Warnings say in a person's words where things are not as they should be: a cached policy
	// in force, a store that was set aside, events lost. Empty is good.
	Warnings []string `json:"warnings"`
}

// IOStatus is about the connections for cyclic I/O of EtherNet/IP.
type IOStatus struct {
	Open int `json:"open"`
	// Refused counts those that were permitted and found no room: they carry nothing.
	Refused uint64 `json:"refused"`
}

// withoutNull returns the status with empty lists in the place of absent ones, so that whoever
// reads the JSON finds a list under each key.
func (s Status) withoutNull() Status {
	s.Ports = append([]PortStatus{}, s.Ports...)
	s.Conduits = append([]ConduitStatus{}, s.Conduits...)
	s.Islands = append([]Island{}, s.Islands...)
	s.Outage.Failures = append([]outage.Failure{}, s.Outage.Failures...)
	s.Queues = append([]QueueStatus{}, s.Queues...)
	s.Warnings = append([]string{}, s.Warnings...)
	return s
}

// PolicyStatus is the policy in force.
type PolicyStatus struct {
	Version uint64    `json:"version"` // 0 where none is
	Hash    string    `json:"hash"`    // SHA-256 of its bytes, lower-case hex
	Site    string    `json:"site,omitempty"`
	Since   time.Time `json:"since,omitzero"`

	// ConfirmBy is when it is rolled back unless confirmed; zero where nothing waits.
	ConfirmBy time.Time `json:"confirm_by,omitzero"`
}

// PortStatus is one of the two ports.
type PortStatus struct {
	Name string `json:"name"`
	Side string `json:"side"` // a or b
	Link string `json:"link"` // up, down or missing
	XDP  string `json:"xdp"`  // native, generic or none

	// LinkControl is how many frames of link-local control traffic came in at the port and were
	// forwarded: they belong to no conduit.
	LinkControl uint64 `json:"link_control"`
	// Undelivered is how many frames that were permitted did not leave by the port since the daemon
	// began: it was down, they were too long for it, or the device had no room. Absent where the
	// kernel does not tell.
	Undelivered *uint64 `json:"undelivered,omitempty"`
}

// OutageStatus says whether inspection is possible, and what passed while it was not: frames and seconds
// since the fast path was laid, across daemons.
type OutageStatus struct {
	State              OutageState `json:"state"`
	UninspectedFrames  uint64      `json:"uninspected_frames"`
	UninspectedSeconds float64     `json:"uninspected_seconds"`
	// Failures are what has failed since the daemon began: what is failing first, then the latest.
	Failures []outage.Failure `json:"failures"`
}

// OutageState is the state of inspection, for the appliance or for one conduit.
type OutageState string

// The states. AddressOnly is a conduit's only: it is enforced by address and port, and no
// message of it is looked at.
const (
	StateInspecting  OutageState = "inspecting"
	StateAddressOnly OutageState = "address_only"
	StateOpen        OutageState = "open"
	StateClosed      OutageState = "closed"
)

// Island is a zone whose conduits are closed but for the essential ones.
type Island struct {
	Zone  string    `json:"zone"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"` // when it ends by itself; zero is never
	Who   string    `json:"who"`
}

// ConduitStatus is one conduit of the policy in force.
type ConduitStatus struct {
	Name     string      `json:"name"`
	Protocol string      `json:"protocol"`
	Mode     string      `json:"mode"`      // observe or enforce; discover under such a policy
	OnOutage string      `json:"on_outage"` // open or closed
	State    OutageState `json:"state"`
	Allowed  uint64      `json:"allowed"`
	Denied   uint64      `json:"denied"`

	// What the conduit states of its targets (IEC 62443-3-3 SR 5.2).
	SLTarget   string        `json:"sl_target"` // a level, or a vector: "iac 2, rdf 3"
	Essential  bool          `json:"essential"`
	SecondPath string        `json:"second_path,omitempty"`
	Waiver     *WaiverStatus `json:"waiver,omitempty"`
}

// WaiverStatus is an owner's acceptance of a conduit that opens although its target excludes it.
type WaiverStatus struct {
	Owner        string `json:"owner"`
	Expires      string `json:"expires"` // the last day on which it holds
	Compensating string `json:"compensating"`
	Lapsed       bool   `json:"lapsed"`
}

// QueueStatus is one of the queues between the kernel and inspection.
type QueueStatus struct {
	Number  uint16 `json:"number"`
	Packets uint64 `json:"packets"`
	Dropped uint64 `json:"dropped"`
	Depth   uint64 `json:"depth"` // packets waiting now
}

// EventStatus counts events and what became of them.
type EventStatus struct {
	Published uint64 `json:"published"`
	Dropped   uint64 `json:"dropped"` // given up before anybody could read them
	Missed    uint64 `json:"missed"`  // not given to a reader that was too slow
}

// PolicyVersion is one entry of the history.
type PolicyVersion struct {
	Version uint64       `json:"version"`
	Hash    string       `json:"hash"`
	Site    string       `json:"site"`
	Name    string       `json:"name"` // the file it came from
	Time    time.Time    `json:"time"`
	Who     string       `json:"who"`
	Size    int          `json:"size"` // bytes
	State   VersionState `json:"state"`
}

// VersionState says what a version is to the running daemon.
type VersionState string

// The states of a version. VersionStored is in the history and nothing more.
const (
	VersionActive   VersionState = "active"
	VersionPending  VersionState = "pending"  // active, and waits for confirmation
	VersionPrevious VersionState = "previous" // what a rollback goes back to
	VersionStored   VersionState = "stored"
)

// PolicyDocument is a version and its text.
type PolicyDocument struct {
	PolicyVersion
	Text string `json:"text"`
}

// Submission is a policy that somebody wants in force.
type Submission struct {
	Name          string        // the file it came from, for errors and the history
	Raw           []byte        // at most MaxPolicyBytes
	Who           string        // who is at the other end of the socket
	ConfirmWithin time.Duration // roll back after this time unless confirmed; 0 is not at all
}

// Applied is what a change of policy led to.
type Applied struct {
	Version   uint64    `json:"version"`
	Hash      string    `json:"hash"`
	Site      string    `json:"site"`
	Unchanged bool      `json:"unchanged,omitempty"` // it was in force already
	ConfirmBy time.Time `json:"confirm_by,omitzero"`
	Previous  uint64    `json:"previous,omitempty"` // what a rollback goes back to
	Warnings  []string  `json:"warnings,omitempty"`
}
