// Package event describes what Penstock decided and hands it to whoever wants to know: people,
// logs, metrics, records. The hand-over is bounded and lossy, and it counts what it loses, so
// that no reader can slow the line down and none can believe that it saw everything when it
// did not.
package event

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/penstock-ot/penstock/internal/verdict"
)

// Unknown stands for an identity that the policy does not name.
const Unknown = "unknown"

// TimeFormat is how the time of an event is written: RFC 3339 with microseconds, in UTC.
const TimeFormat = "2006-01-02T15:04:05.000000Z"

// Layer says which part decided.
type Layer string

// The layers.
const (
	LayerXDP     Layer = "xdp"     // the fast path, on a frame
	LayerInspect Layer = "inspect" // the slow path, on a packet or a message
	LayerPerson  Layer = "person"  // a person, on the appliance: a zone closed, a bypass engaged
)

// Mode says whether the verdict held.
type Mode string

// The modes in which verdicts fall. In discover there are none.
const (
	ModeObserve Mode = "observe" // the verdict is what enforcement would have done
	ModeEnforce Mode = "enforce" // the verdict held
)

// Event is one verdict, or Count equal ones.
type Event struct {
	// Sequence numbers the events of one run of the daemon from 1. The bus sets it.
	Sequence uint64

	Time    time.Time // when the verdict fell; the bus fills in a zero one
	Mode    Mode
	Verdict verdict.Action // Allow or Deny; anything else is written as deny
	Reason  verdict.Reason

	Conduit     string // empty where none covers it
	Source      string // identity name of who sent it; empty is written as Unknown
	Destination string

	// Addresses as the frame carries them: "198.18.0.20:49152", "198.18.0.20", or a MAC
	// address where there is no IP header.
	SourceAddress      string
	DestinationAddress string

	Protocol  string // "modbus", "tcp", "arp", "ethertype 0x8892" …
	Operation string // "write_single_register"; empty where no message was read
	Detail    string // for people: "unit 1 address 100-101"

	Policy uint64 // version of the policy that decided; 0 before the first is applied
	Layer  Layer

	SourceMAC      string // empty where not known
	DestinationMAC string
	VLAN           uint16 // outermost tag; 0 is untagged
	Count          uint64 // how many equal verdicts this one stands for; 0 is written as 1

	// Missed is how many events before this one its reader was too slow to be given. It
	// belongs to the reader, not to the event: only a Subscription sets it.
	Missed uint64
}

// wire is an Event as JSON has it. The keys are a published interface: never rename one.
type wire struct {
	Time               string `json:"time"`
	Mode               Mode   `json:"mode"`
	Verdict            string `json:"verdict"`
	Reason             string `json:"reason"`
	Conduit            string `json:"conduit"`
	Source             string `json:"source"`
	Destination        string `json:"destination"`
	SourceAddress      string `json:"source_address"`
	DestinationAddress string `json:"destination_address"`
	Protocol           string `json:"protocol"`
	Operation          string `json:"operation"`
	Detail             string `json:"detail"`
	Policy             uint64 `json:"policy"`
	Layer              Layer  `json:"layer"`
	Sequence           uint64 `json:"sequence,omitempty"`
	SourceMAC          string `json:"source_mac,omitempty"`
	DestinationMAC     string `json:"destination_mac,omitempty"`
	VLAN               uint16 `json:"vlan,omitempty"`
	Count              uint64 `json:"count"`
	Missed             uint64 `json:"missed,omitempty"`
}

// MarshalJSON writes the event with the keys that `penstock events --json` promises. Fields
// that nobody filled in get the value that overstates nothing: a verdict that is not allow
// is deny, an identity without a name is unknown.
func (e Event) MarshalJSON() ([]byte, error) {
	e = e.normalised()
	return json.Marshal(wire{
		Time: e.Time.UTC().Format(TimeFormat), Mode: e.Mode,
		Verdict: e.Verdict.String(), Reason: e.Reason.String(),
		Conduit: e.Conduit, Source: e.Source, Destination: e.Destination,
		SourceAddress: e.SourceAddress, DestinationAddress: e.DestinationAddress,
		Protocol: e.Protocol, Operation: e.Operation, Detail: e.Detail,
		Policy: e.Policy, Layer: e.Layer, Sequence: e.Sequence,
		SourceMAC: e.SourceMAC, DestinationMAC: e.DestinationMAC, VLAN: e.VLAN,
		Count: e.Count, Missed: e.Missed,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote. It fails on a time, verdict or reason that it
// does not know.
func (e *Event) UnmarshalJSON(b []byte) error {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, w.Time)
	if err != nil {
		return fmt.Errorf("read event time: %w", err)
	}
	action, err := parseAction(w.Verdict)
	if err != nil {
		return err
	}
	var reason verdict.Reason
	if err := reason.UnmarshalText([]byte(w.Reason)); err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	*e = Event{
		Sequence: w.Sequence, Time: at.UTC(), Mode: w.Mode, Verdict: action, Reason: reason,
		Conduit: w.Conduit, Source: w.Source, Destination: w.Destination,
		SourceAddress: w.SourceAddress, DestinationAddress: w.DestinationAddress,
		Protocol: w.Protocol, Operation: w.Operation, Detail: w.Detail,
		Policy: w.Policy, Layer: w.Layer,
		SourceMAC: w.SourceMAC, DestinationMAC: w.DestinationMAC, VLAN: w.VLAN,
		Count: w.Count, Missed: w.Missed,
	}
	return nil
}

func parseAction(s string) (verdict.Action, error) {
	for _, a := range []verdict.Action{verdict.Allow, verdict.Deny} {
		if a.String() == s {
			return a, nil
		}
	}
	return verdict.Undecided, fmt.Errorf("read event: verdict %q is neither allow nor deny", s)
}

// normalised returns the event with its gaps filled (see MarshalJSON).
func (e Event) normalised() Event {
	if e.Verdict != verdict.Allow {
		e.Verdict = verdict.Deny
	}
	if e.Source == "" {
		e.Source = Unknown
	}
	if e.Destination == "" {
		e.Destination = Unknown
	}
	if e.Count == 0 {
		e.Count = 1
	}
	return e
}
