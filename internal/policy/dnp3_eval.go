package policy

import (
	"time"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// DNP3Request is what a master asks of an outstation.
type DNP3Request struct {
	Master, Outstation uint16 // link addresses
	Message            *dnp3.Message
	// Selected says that a complete operate repeats the select before it, with the next sequence
	// number; SinceSelect is how long that was ago.
	Selected    bool
	SinceSelect time.Duration
}

// EvalDNP3 judges a request on a DNP3 conduit of the plan, without regard to rates (see
// EvalDNP3Rate). It does not allocate, and it may be called from any goroutine.
//
// # What the rules say together
//
// Rules only permit, so they add up. Every point of every object that a request names must be
// permitted by at least one rule that has the request's function and addresses; what is to become of
// the point is judged by that rule. A header that names all points, or some without saying which, needs a
// rule without points. A request without objects needs a rule with its function and addresses.
//
// The objects of secure authentication that enclose a request are not objects of that request.
//
// # Which reason
//
// The reason is that of the rule that came furthest: function, addresses, object, point, value.
//
// # Prefixes
//
// Of a request that has not arrived whole only what has is judged. A denial is final: no continuation
// could be permitted. Allow then says only that one might be.
func (p *Plan) EvalDNP3(conduit uint32, r *DNP3Request) verdict.Verdict {
	rules, ok := p.dnp3Rules(conduit)
	if !ok {
		return verdict.Denied(verdict.ReasonNoConduit)
	}
	e := dnp3Evaluation{rules: rules, r: r}
	return e.verdict()
}

// EvalDNP3Rate judges a whole request as EvalDNP3 does, and takes one token from each rule that it
// needs, as EvalModbusRate does.
func (p *Plan) EvalDNP3Rate(conduit uint32, r *DNP3Request, rates *Rates, now time.Time) verdict.Verdict {
	rules, ok := p.dnp3Rules(conduit)
	if !ok {
		return verdict.Denied(verdict.ReasonNoConduit)
	}
	left := rates.of(conduit)
	e := dnp3Evaluation{rules: rules, r: r, tokens: tokens{buckets: left.lock(), now: now}}
	defer left.unlock()
	for i := range rules {
		e.mark(i, rules[i].Rate)
	}
	v := e.verdict()
	if v.Allows() {
		for i := range rules {
			e.pay(i, rules[i].Rate)
		}
		return v
	}
	if !e.empty.Empty() {
		free := dnp3Evaluation{rules: rules, r: r}
		if free.verdict().Allows() {
			return verdict.Denied(verdict.ReasonRateExceeded)
		}
		return free.verdict()
	}
	return v
}

// EvalDNP3Link judges whether two stations may speak at all: link frames without a message, and
// responses, which answer what was permitted.
func (p *Plan) EvalDNP3Link(conduit uint32, master, outstation uint16) verdict.Verdict {
	rules, ok := p.dnp3Rules(conduit)
	if !ok {
		return verdict.Denied(verdict.ReasonNoConduit)
	}
	for i := range rules {
		if rules[i].between(master, outstation) {
			return verdict.Permitted
		}
	}
	return verdict.Denied(verdict.ReasonAddressNotPermitted)
}

// EvalDNP3Unsolicited judges whether an outstation may send a master what it did not ask for.
func (p *Plan) EvalDNP3Unsolicited(conduit uint32, master, outstation uint16) verdict.Verdict {
	rules, ok := p.dnp3Rules(conduit)
	if !ok {
		return verdict.Denied(verdict.ReasonNoConduit)
	}
	why := verdict.ReasonFunctionNotPermitted
	for i := range rules {
		if !rules[i].Functions.Has(uint8(dnp3.UnsolicitedResponse)) {
			continue
		}
		if rules[i].between(master, outstation) {
			return verdict.Permitted
		}
		why = verdict.ReasonAddressNotPermitted
	}
	return verdict.Denied(why)
}

func (p *Plan) dnp3Rules(conduit uint32) ([]DNP3Rule, bool) {
	if int(conduit) >= len(p.Conduits) || p.Conduits[conduit].Protocol != ProtocolDNP3 {
		return nil, false
	}
	return p.Conduits[conduit].DNP3, true
}

// between tells whether the rule is about the two stations. Broadcast and the self address reach
// whoever listens: the first has to be named, and the second cannot be.
func (rule *DNP3Rule) between(master, outstation uint16) bool {
	if rule.Masters != nil && !rule.Masters.Contains(uint32(master)) {
		return false
	}
	if rule.Outstations == nil {
		return outstation <= dnp3.MaxAddress
	}
	return rule.Outstations.Contains(uint32(outstation))
}

// names tells whether the rule is about the header's object.
//
// A rule without objects is about any, with exceptions that have to be named. What is written is only
// the time and the internal indications: everything else changes what the outstation runs or how it is
// set up. A file's contents need files or g70. And a selector of one kind of object
// (classes, files, control codes and the like, values) makes a rule without objects one about that kind.
func (rule *DNP3Rule) names(f dnp3.FunctionCode, h *dnp3.Header) bool {
	if class, ok := h.Class(); ok && rule.Classes != nil {
		return rule.Classes.Has(class)
	}
	for _, o := range rule.Objects {
		if o.Group == h.Group && (o.AnyVariation || o.Variation == h.Variation) {
			return true
		}
	}
	switch blocks := rule.ofControlBlocks(); {
	case rule.Files != nil && h.Group == dnp3.GroupFile:
		return true
	case rule.Objects != nil, rule.Classes != nil, rule.Files != nil:
		return false
	case h.Group == dnp3.GroupFile:
		return f.OnFile()
	case blocks || rule.Values != nil:
		return blocks && h.Group == dnp3.GroupControl ||
			rule.Values != nil && (h.Group == dnp3.GroupAnalogOutput || h.Group == dnp3.GroupAnalogStatus || h.Group == dnp3.GroupDeadband)
	case f == dnp3.Write:
		return h.Group == dnp3.GroupTime || h.Group == dnp3.GroupIndication
	}
	return true
}

// ofControlBlocks tells whether a selector of the rule is about control blocks.
func (rule *DNP3Rule) ofControlBlocks() bool {
	return rule.ControlCodes != nil || rule.Counts != nil || rule.OnTimes != nil || rule.OffTimes != nil
}

// permitsControl tells whether the rule permits what a block does.
func (rule *DNP3Rule) permitsControl(c *dnp3.Control) bool {
	return (rule.ControlCodes == nil || rule.ControlCodes.Has(uint8(c.Code))) &&
		(rule.Counts == nil || rule.Counts.Contains(uint32(c.Count))) &&
		(rule.OnTimes == nil || rule.OnTimes.Contains(c.OnTime)) &&
		(rule.OffTimes == nil || rule.OffTimes.Contains(c.OffTime))
}

// permitsFile tells whether the rule permits a file's name. A file that is opened for anything but
// reading can be changed, or made: that needs write among the rule's functions.
func (rule *DNP3Rule) permitsFile(f dnp3.FunctionCode, file *dnp3.File) (name, mode bool) {
	name = rule.Files == nil || file.Name == nil
	for _, glob := range rule.Files {
		name = name || matchesName(glob, file.Name)
	}
	mode = f != dnp3.OpenFile || file.Mode == dnp3.FileModeRead || rule.Functions.Has(uint8(dnp3.Write))
	return name, mode
}

// dnp3Reached is how far a rule came, in the order of the reasons.
type dnp3Reached uint8

const (
	dnp3Nothing dnp3Reached = iota
	dnp3Function
	dnp3Address
	dnp3Object
	dnp3Point
)

// dnp3Evaluation judges one request. It lives on the caller's stack.
type dnp3Evaluation struct {
	rules []DNP3Rule
	r     *DNP3Request
	reach dnp3Reached

	pattern    dnp3.Control // what the masks that follow are about
	hasPattern bool
	masked     uint64 // points of the masks so far

	tokens
}

func (e *dnp3Evaluation) verdict() verdict.Verdict {
	if e.permitted() {
		return verdict.Permitted
	}
	switch e.reach {
	case dnp3Function:
		return verdict.Denied(verdict.ReasonAddressNotPermitted)
	case dnp3Address:
		return verdict.Denied(verdict.ReasonObjectNotPermitted)
	case dnp3Object:
		return verdict.Denied(verdict.ReasonPointNotPermitted)
	case dnp3Point:
		return verdict.Denied(verdict.ReasonValueNotPermitted)
	}
	return verdict.Denied(verdict.ReasonFunctionNotPermitted)
}

func (e *dnp3Evaluation) permitted() bool {
	m := e.r.Message
	if !m.Known() {
		return true // the addresses are for EvalDNP3Link
	}
	judged := false
	for headers := m.Headers(); headers.Next(); {
		h := &headers.Header
		if !h.Named() {
			break
		}
		if h.Group == dnp3.GroupAuthentication && !m.Function.Authenticates() {
			continue
		}
		judged = true
		if !e.header(h) {
			return false
		}
	}
	return judged || e.bare()
}

// candidate tells whether the rule has the request's function and addresses.
func (e *dnp3Evaluation) candidate(i int) bool {
	rule, m := &e.rules[i], e.r.Message
	if !rule.Functions.Has(uint8(m.Function)) || e.empty.Has(uint8(i)) || e.lacksSelect(rule) {
		return false
	}
	e.reach = max(e.reach, dnp3Function)
	if !rule.between(e.r.Master, e.r.Outstation) {
		return false
	}
	e.reach = max(e.reach, dnp3Address)
	return true
}

// lacksSelect tells whether the rule binds the request to a select that has not been or is too old.
func (e *dnp3Evaluation) lacksSelect(rule *DNP3Rule) bool {
	m := e.r.Message
	if rule.SelectBeforeOperate == 0 || m.Function != dnp3.Operate || !m.Complete {
		return false
	}
	return !e.r.Selected || e.r.SinceSelect > rule.SelectBeforeOperate
}

// bare judges a request without objects, or one whose objects nobody can read.
func (e *dnp3Evaluation) bare() bool {
	e.reach = dnp3Nothing
	by := -1
	for i := range e.rules {
		if !e.candidate(i) {
			continue
		}
		if rule := &e.rules[i]; !e.r.Message.Function.Defined() && (rule.Objects != nil || rule.Points != nil) {
			continue
		}
		by = e.better(i, by)
	}
	return e.use(by)
}

// header judges one object header.
func (e *dnp3Evaluation) header(h *dnp3.Header) bool {
	if !h.PointsKnown() {
		return e.named(h)
	}
	switch {
	case h.Ranged() && !h.PatternMask():
		if !e.span(h) {
			return false
		}
	case !h.Indexed() && !h.PatternMask() && !h.PatternBlock():
		if !e.unindexed(h) {
			return false
		}
	}
	if h.PatternBlock() {
		e.hasPattern = false
	}
	if !h.Indexed() && !carriesMore(h) {
		return true
	}
	if h.PatternMask() {
		if e.masked += h.Count; e.masked > maxMaskedPoints {
			e.reach = dnp3Object
			return false
		}
	}
	objects := h.Objects()
	any := false
	for objects.Next() {
		any = true
		if h.PatternMask() && objects.Bits == 0 {
			continue // the point stays as it is
		}
		if !e.object(h, &objects) {
			return false
		}
	}
	return any || e.named(h)
}

// maxMaskedPoints is how many points the masks of one request may be about, set or not; a request with
// more is denied by its points. Each is judged by itself, and a message has room for 16,000, which with
// many rules would hold a verdict loop for as long as a heartbeat may pause.
const maxMaskedPoints = 512

// carriesMore tells whether objects have contents that a rule may be about. Bits that are on or off are
// judged by their points: a message has room for 16,000 of them.
func carriesMore(h *dnp3.Header) bool { return h.Carries() && (!h.Packed() || h.PatternMask()) }

// named judges a header of which only the object is known, or which names no point at all.
func (e *dnp3Evaluation) named(h *dnp3.Header) bool {
	e.reach = dnp3Nothing
	by := -1
	for i := range e.rules {
		if e.candidate(i) && e.rules[i].names(e.r.Message.Function, h) {
			by = e.better(i, by)
		}
	}
	return e.use(by)
}

// unindexed judges a header that does not say which points it means: all, the first few, or an object
// that has none.
func (e *dnp3Evaluation) unindexed(h *dnp3.Header) bool {
	e.reach = dnp3Nothing
	by := -1
	for i := range e.rules {
		if !e.candidate(i) || !e.rules[i].names(e.r.Message.Function, h) {
			continue
		}
		e.reach = max(e.reach, dnp3Object)
		if e.rules[i].Points == nil {
			by = e.better(i, by)
		}
	}
	return e.use(by)
}

// span walks through a range: from where the rules have come so far, the rule that permits the
// longest run goes on.
func (e *dnp3Evaluation) span(h *dnp3.Header) bool {
	for at, end := uint64(h.Start), uint64(h.Stop)+1; at < end; {
		e.reach = dnp3Nothing
		next, by := at, -1
		for i := range e.rules {
			if !e.candidate(i) || !e.rules[i].names(e.r.Message.Function, h) {
				continue
			}
			e.reach = max(e.reach, dnp3Object)
			stop := end
			if points := e.rules[i].Points; points != nil {
				last, ok := points.end(uint32(at))
				if !ok {
					continue
				}
				stop = min(end, uint64(last)+1)
			}
			if stop > next || stop == next && e.better(i, by) == i {
				next, by = stop, i
			}
		}
		if by < 0 {
			return false
		}
		if !carriesMore(h) {
			e.use(by) // with contents, each object finds its own
		}
		at = next
	}
	return true
}

// object judges one object: its point, and what is to become of it.
func (e *dnp3Evaluation) object(h *dnp3.Header, o *dnp3.Objects) bool {
	e.reach = dnp3Nothing
	control, isControl := h.Control(o.Data)
	if h.PatternBlock() {
		e.pattern, e.hasPattern = control, isControl
	}
	by := -1
	for i := range e.rules {
		rule := &e.rules[i]
		if !e.candidate(i) || !rule.names(e.r.Message.Function, h) {
			continue
		}
		e.reach = max(e.reach, dnp3Object)
		if rule.Points != nil && !h.PatternBlock() && !(h.Indexed() || h.Ranged()) {
			continue
		}
		if rule.Points != nil && !h.PatternBlock() && !rule.Points.Contains(o.Index) {
			continue
		}
		if e.contents(rule, h, o, &control, isControl) {
			by = e.better(i, by)
		}
	}
	return e.use(by)
}

// contents judges what is to become of a point that the rule permits.
func (e *dnp3Evaluation) contents(rule *DNP3Rule, h *dnp3.Header, o *dnp3.Objects, c *dnp3.Control, isControl bool) bool {
	if file, ok := h.File(o.Data); ok {
		name, mode := rule.permitsFile(e.r.Message.Function, &file)
		if !name {
			e.reach = dnp3Address // the name is which object it is
			return false
		}
		e.reach = max(e.reach, dnp3Point)
		return mode
	}
	e.reach = max(e.reach, dnp3Point)
	if h.PatternMask() {
		c, isControl = &e.pattern, e.hasPattern
	}
	if isControl && !rule.permitsControl(c) {
		return false
	}
	v, analog := h.Analog(o.Data)
	return !analog || rule.Values == nil || contained(rule.Values, v)
}

// better returns which of two rules is to be used: one that costs no token before one that does.
func (e *dnp3Evaluation) better(i, by int) int {
	if by < 0 || e.costs(by, e.rules[by].Rate) && !e.costs(i, e.rules[i].Rate) {
		return i
	}
	return by
}

// use notes the rule that the verdict stands on, and tells whether there is one.
func (e *dnp3Evaluation) use(by int) bool {
	if by < 0 {
		return false
	}
	e.used.Add(uint8(by))
	return true
}

// matchesName compares a file's name with a glob. Neither wildcard stands for a separator, of which
// there are two, and a name that climbs out of its directory matches none.
func matchesName(glob string, name []byte) bool {
	return !climbs(name) && globs(glob, name)
}

// globs tells whether the glob describes the name. It goes back to the last * only, which is enough, as a *
// takes as little as it can.
func globs(glob string, name []byte) bool {
	star, from := -1, 0
	g, n := 0, 0
	for n < len(name) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, from = g, n
			g++
			continue
		case g < len(glob) && (glob[g] == name[n] && glob[g] != '?' || glob[g] == '?' && !separator(name[n])):
			g++
			n++
			continue
		case star >= 0 && !separator(name[from]):
			from++
			g, n = star+1, from
			continue
		}
		return false
	}
	for g < len(glob) && glob[g] == '*' {
		g++
	}
	return g == len(glob)
}

func separator(c byte) bool { return c == '/' || c == '\\' }

// climbs tells whether an element of the name is "..", or the name holds a byte that ends it for some.
func climbs(name []byte) bool {
	dots, element := 0, 0
	for i := 0; i <= len(name); i++ {
		if i == len(name) || separator(name[i]) {
			if element == 2 && dots == 2 {
				return true
			}
			dots, element = 0, 0
			continue
		}
		if name[i] == 0 {
			return true
		}
		element++
		if name[i] == '.' {
			dots++
		}
	}
	return false
}
