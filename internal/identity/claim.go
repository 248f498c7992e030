package identity

import "time"

// Claim is what a device says of itself in one protocol. Nothing of it is proven: it is evidence
// for a person, and never what a verdict rests on. Texts are the device's own, cut to MaxText bytes.
type Claim struct {
	Protocol string    `json:"protocol"` // "modbus", "dnp3", "cip"
	Vendor   string    `json:"vendor,omitempty"`
	Type     string    `json:"type,omitempty"` // "programmable logic controller", "12"
	Product  string    `json:"product,omitempty"`
	Revision string    `json:"revision,omitempty"`
	Serial   string    `json:"serial,omitempty"`
	Name     string    `json:"name,omitempty"` // what its owner called it
	Seen     time.Time `json:"seen"`           // when it was said last
}

// MaxText is how many bytes of a text of a device's own are kept.
const MaxText = 128

// texts are the fields that a device fills.
func (c *Claim) texts() []*string {
	return []*string{&c.Vendor, &c.Type, &c.Product, &c.Revision, &c.Serial, &c.Name}
}

// merge takes over what the later claim says. What it leaves out stays: a device tells its
// attributes one by one.
func (c *Claim) merge(later Claim) {
	mine, theirs := c.texts(), later.texts()
	for i, text := range theirs {
		if *text != "" {
			*mine[i] = cut(*text)
		}
	}
	c.Seen = latest(c.Seen, later.Seen)
}

func cut(text string) string {
	if len(text) <= MaxText {
		return text
	}
	return text[:MaxText]
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
