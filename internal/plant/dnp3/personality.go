package dnp3

// Personality is how an outstation departs from the standard. The zero value does not.
type Personality struct {
	Hunts        bool // looks for sync octets after garbage; the strict end of a connection stops reading
	AnyTransport bool // ignores transport sequence numbers, and begins with any segment
	AnyDirection bool // takes frames whose direction bit says that an outstation sent them
	AnyFragment  bool // takes requests that are not first and last fragment
	AnyQualifier bool // takes controls without an index under the index that their range gives
	AnySelect    bool // takes an OPERATE whatever its sequence number, if the objects are the selected ones
	IgnoresTail  bool // executes what it understands, whatever stands beside it
	WritesOutput bool // takes a WRITE of binary outputs for a control
	Self         bool // answers to the self-address

	StickyErrors bool // repeats an error's indications in later replies
	ErrorsZero   bool // replies to an error with sequence number 0
}

// Strict does what the standard says, and hunts for sync as most stations do.
func Strict() Personality { return Personality{Hunts: true} }

// Sticky goes on indicating an error in later replies.
func Sticky() Personality { return Personality{Hunts: true, StickyErrors: true} }

// Zeroing forgets the sequence number when it replies to an error.
func Zeroing() Personality { return Personality{Hunts: true, ErrorsZero: true} }

// Loose executes whatever it can make sense of: the outstation that an attacker hopes for.
func Loose() Personality {
	return Personality{
		Hunts: true, AnyTransport: true, AnyDirection: true, AnyFragment: true, AnyQualifier: true,
		AnySelect: true, IgnoresTail: true, WritesOutput: true, Self: true,
	}
}

// Personalities are all of them by name.
func Personalities() map[string]Personality {
	return map[string]Personality{"strict": Strict(), "sticky": Sticky(), "zeroing": Zeroing(), "loose": Loose()}
}
