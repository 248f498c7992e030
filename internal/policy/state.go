package policy

// State is how far a conduit's traffic is looked at while nothing is out of order.
type State string

// The states. What an outage makes of them is for whoever sees the outage.
const (
	StateInspecting  State = "inspecting"   // messages are judged by rules
	StateAddressOnly State = "address_only" // endpoints and ports hold, contents are not read
)

// State returns the conduit's state. An inspected protocol without a dissector is address_only: it
// says so rather than look better than it is.
func (c *Conduit) State() State {
	if c.Inspect {
		return StateInspecting
	}
	return StateAddressOnly
}
