package outage

import "context"

// State is where the line's frames go.
type State string

// The states.
const (
	Inline  State = "inline"  // through the appliance
	Engaged State = "engaged" // past it: nothing is inspected, nothing is denied
	Blocked State = "blocked" // nowhere
	Unknown State = "unknown" // what drives the bypass does not say
)

// Driver is what carries the line past the appliance. Calls come one at a time; each returns within
// the context's time, and a driver that cannot know its state says Unknown and why.
type Driver interface {
	// Name is the driver's name in the settings.
	Name() string
	// Engage leads frames past the appliance. It may be called when that is so already.
	Engage(context.Context) error
	// Release leads frames through the appliance again.
	Release(context.Context) error
	// State asks where frames go.
	State(context.Context) (State, error)
	// Close lets go of the driver and changes nothing: what is engaged stays so.
	Close() error
}

// Beater is a driver that engages by itself unless it hears a heartbeat: with the appliance's power,
// or its kernel, the heartbeat ends.
type Beater interface {
	Driver
	// Beat tells that inspection works. A driver that is engaged on purpose takes no notice.
	Beat() error
}
