package dnp3

import "time"

// unsolicited is what an outstation says to a master unasked (IEEE 1815 5.1.1.1).
type unsolicited struct {
	announced bool    // the empty one after a restart has been confirmed
	enabled   [4]bool // by class
	sequence  byte
	waiting   *built // for its confirmation
	raw       []byte
	timer     *time.Timer
}

func (u *unsolicited) stop() {
	if u.timer != nil {
		u.timer.Stop()
	}
}

// forget gives up on a response whose channel has ended.
func (u *unsolicited) forget() {
	u.stop()
	if u.waiting == nil {
		return
	}
	for _, e := range u.waiting.events {
		e.sent = false
	}
	u.waiting = nil
}

// maxEvents bounds an association's buffer; the oldest event goes first.
const maxEvents = 1000

// Update changes a point, by its static group and index, which is an event if its class has any.
func (o *Outstation) Update(group uint8, index int, value float64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := &o.points.of(group)[index]
	p.value = value
	if p.class == 0 {
		return
	}
	for _, a := range o.associations {
		a.events = append(a.events, &event{
			static: group, index: uint32(index), class: p.class, value: value, at: o.now().Add(o.clock),
		})
		if len(a.events) > maxEvents {
			a.events, a.overflow = a.events[1:], true
		}
		o.speak(a)
	}
}

// announces reports whether a master is to be told of a restart unasked.
func (o *Outstation) announces(a *association) bool {
	return o.config.Unsolicited && a.master == o.config.Master && a.channel != nil
}

// announce sends the empty response that follows a restart.
func (o *Outstation) announce(a *association) {
	if o.announces(a) && !a.unsolicited.announced && a.unsolicited.waiting == nil {
		o.say(a, built{})
	}
}

// speak sends the events of the classes that the master has enabled, if nothing is outstanding.
func (o *Outstation) speak(a *association) {
	u := &a.unsolicited
	if u.waiting != nil || a.channel == nil || !u.announced && o.announces(a) {
		return
	}
	pack := newBuilder(o.config.FragmentSize - 4)
	for _, e := range a.events {
		if !e.sent && u.enabled[e.class] {
			o.addEvent(pack, e, 0)
		}
	}
	if len(pack.bodies[0].events) > 0 {
		o.say(a, pack.bodies[0])
	}
}

// say sends an unsolicited response, and again until it is confirmed.
func (o *Outstation) say(a *association, b built) {
	u := &a.unsolicited
	for _, e := range b.events {
		e.sent = true
	}
	u.waiting = &b
	u.raw = Fragment{
		Control: FIR | FIN | CON | UNS | u.sequence, Function: UnsolicitedResponse,
		IIN: o.indications(a), Body: b.body,
	}.Append(nil)
	o.repeat(a, u.waiting)
}

func (o *Outstation) repeat(a *association, which *built) {
	u := &a.unsolicited
	if o.closed || u.waiting != which || a.channel == nil {
		return
	}
	a.channel.fragment(FromOutstation, a.master, o.config.Address, u.raw)
	u.stop()
	u.timer = time.AfterFunc(o.config.UnsolicitedTimeout, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.repeat(a, which)
	})
}

func (o *Outstation) unsolicitedConfirmed(a *association, sequence byte) {
	u := &a.unsolicited
	if u.waiting == nil || sequence != u.sequence {
		return
	}
	u.stop()
	u.announced = true
	a.forget(u.waiting.events)
	u.waiting = nil
	u.sequence = (u.sequence + 1) & sequenceBits
	o.speak(a)
}
