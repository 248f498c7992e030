// Package verdict names the outcome of every decision that Penstock takes about a frame, a
// packet or a message. It is a leaf: everything may import it and it imports nothing of ours,
// so that the fast path, the slow path, events and records share one vocabulary.
package verdict

// Action is what happens to a frame, packet or message. The zero Action is Undecided, and
// whoever has to act on Undecided denies: a forgotten assignment closes, it never opens.
type Action uint8

// The actions, with the numbers that the fast path uses (enum penstock_action in bpf/types.h).
const (
	Undecided Action = iota
	Deny
	Allow
	Inspect // only the fast path's answer: let the slow path decide
)

// String returns the action as it is written in events: "allow", "deny", "inspect".
func (a Action) String() string {
	switch a {
	case Deny:
		return "deny"
	case Allow:
		return "allow"
	case Inspect:
		return "inspect"
	}
	return "undecided"
}

// Verdict is an action and why it fell. The zero Verdict denies (see Action).
type Verdict struct {
	Action Action
	Reason Reason
}

// Permitted is the verdict for what the policy permits.
var Permitted = Verdict{Action: Allow, Reason: ReasonPermitted}

// Denied returns a deny for the reason given.
func Denied(r Reason) Verdict { return Verdict{Action: Deny, Reason: r} }

// Allows reports whether the verdict lets its subject pass. Undecided and Inspect do not.
func (v Verdict) Allows() bool { return v.Action == Allow }
