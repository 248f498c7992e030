package outage

import (
	"slices"
	"sync"
	"time"
)

// Class names what failed. The list is a published interface, as reasons are.
type Class string

// The classes.
const (
	ReaderSilent   Class = "reader_silent"   // a verdict loop shows no heartbeat
	QueueFull      Class = "queue_full"      // packets came faster than they could be judged
	NetlinkError   Class = "netlink_error"   // messages of the kernel lost, or answers it did not take
	TableFull      Class = "table_full"      // flows or connections found no room
	RuleRemoved    Class = "rule_removed"    // netfilter's rules
	BridgeRemoved  Class = "bridge_removed"  // or a port taken out of it, or set down
	ProgramRemoved Class = "program_removed" // an entry program, the marker or the exit gate
	SettingChanged Class = "setting_changed" // of bridge, ports or namespace
	PortMissing    Class = "port_missing"
	LinkDown       Class = "link_down"
	PolicyInvalid  Class = "policy_invalid" // missing, unreadable or wrong; the cached one is in force
	StoreFailed    Class = "store_failed"   // broken, read-only, or the disk is full
	ClockJumped    Class = "clock_jumped"
	BypassDiffers  Class = "bypass_differs" // from what it is meant to be, or nobody knows
)

// Failure is what is known of one class.
type Failure struct {
	Class  Class     `json:"class"`
	Active bool      `json:"active"`
	Count  uint64    `json:"count"` // times that it began
	Since  time.Time `json:"since"` // when it began last
	Until  time.Time `json:"until,omitzero"`
	Detail string    `json:"detail"`
}

// Ledger keeps one entry for each class that has occurred. It is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	entries []Failure // in the order in which the classes first occurred
	told    func(Failure)
}

// NewLedger returns an empty ledger. told, which may be nil, is called with each beginning and each
// end, by the goroutine that notes it, and must not call the ledger.
func NewLedger(told func(Failure)) *Ledger { return &Ledger{told: told} }

// Note takes down what a look found: whether a class of failure is there now. It reports whether that
// is news.
func (l *Ledger) Note(class Class, active bool, detail string, at time.Time) bool {
	l.mu.Lock()
	i := slices.IndexFunc(l.entries, func(f Failure) bool { return f.Class == class })
	if i < 0 && !active || i >= 0 && l.entries[i].Active == active {
		l.mu.Unlock()
		return false
	}
	if i < 0 {
		i = len(l.entries)
		l.entries = append(l.entries, Failure{Class: class})
	}
	f := &l.entries[i]
	f.Active = active
	if active {
		f.Count, f.Since, f.Until, f.Detail = f.Count+1, at, time.Time{}, detail
	} else {
		f.Until = at
	}
	told := *f
	l.mu.Unlock()
	if l.told != nil {
		l.told(told)
	}
	return true
}

// Happened takes down a failure that was over when it was found, because it was mended at once or
// lasts no time.
func (l *Ledger) Happened(class Class, detail string, at time.Time) {
	l.Note(class, true, detail, at)
	l.Note(class, false, detail, at)
}

// Failures returns a copy of the entries: what is active first, then the most recent.
func (l *Ledger) Failures() []Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.Clone(l.entries)
	slices.SortStableFunc(list, func(a, b Failure) int {
		switch {
		case a.Active != b.Active && a.Active:
			return -1
		case a.Active != b.Active:
			return 1
		}
		return b.Since.Compare(a.Since)
	})
	return list
}
