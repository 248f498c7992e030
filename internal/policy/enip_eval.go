package policy

import (
	"time"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// ENIPCheck judges the messages of one EtherNet/IP conduit. It lives on the caller's stack, one for each
// message, and does not allocate.
//
// # What the rules say
//
// Rules only permit. Every service of a message, at whatever depth, has to be permitted by one rule, which
// has to fit the service as a whole; elements and values of a tag are not put together out of several
// rules. The one exception is the Multiple Service Packet to the message router: it does nothing of its own,
// so its services are judged instead of it.
//
// # Route
//
// A service that carries a route (Unconnected Send, Forward Open, Forward Close, a port segment before any
// object) is permitted only by a rule whose route has exactly its hops, those that lead to it before its
// own. Without hops it goes to the conduit's device itself, and needs no route. What arrives over a
// permitted route or connection is judged by rules with that route, and by rules without any; a rule with a
// route does not permit what comes without one.
//
// # Which reason
//
// The reason is that of the rule that came furthest: service, then route, then path or tag, then value. A
// denial of a prefix is final: no continuation of the bytes could be permitted.
type ENIPCheck struct {
	rules []ENIPRule
	left  *conduitRates
	now   time.Time
	known bool
	reach enipReach

	limited bool             // some rule has a rate
	need    [maxRules]uint16 // tokens taken for this message, by rule
	empty   bool             // a rule was passed over for want of a token
	lasting bool             // of I/O only what may outlive its session

	skip, written int // bytes written to a tag that were judged before, and that are judged by now
	looks         int // at rules and written values, for tests of what judging costs
}

// ENIPSoFar is what is known of a service of which only a part was judged. The zero value knows nothing.
type ENIPSoFar struct {
	begun   bool
	rules   [maxRules / 64]uint64 // that permitted it so far: of the others none permits the whole
	written int                   // bytes written to a tag that these permit
}

type enipReach uint8

const (
	enipNothing enipReach = iota
	enipService
	enipRoute
	enipPath
	enipTag
	enipValue
)

// CheckENIP begins to judge a message on an EtherNet/IP conduit of the plan. Without rates no rule has one.
func (p *Plan) CheckENIP(c *ENIPCheck, conduit uint32, rates *Rates, now time.Time) {
	c.rules, c.left, c.now, c.known, c.empty, c.lasting = nil, nil, now, false, false, false
	if int(conduit) >= len(p.Conduits) || p.Conduits[conduit].Protocol != ProtocolENIP {
		return
	}
	c.rules, c.known = p.Conduits[conduit].ENIP, true
	if c.limited {
		c.need = [maxRules]uint16{}
	}
	c.limited = false
	if rates == nil {
		return
	}
	for i := range c.rules {
		c.limited = c.limited || c.rules[i].Rate.Limited()
	}
	if c.limited {
		c.left = rates.of(conduit)
	}
}

// EvalCommand judges an encapsulation command, without regard to what it carries.
func (c *ENIPCheck) EvalCommand(m *enip.Message) verdict.Verdict {
	switch {
	case !c.known:
		return verdict.Denied(verdict.ReasonNoConduit)
	case !m.KnowsCommand() || impliedCommand(m.Command):
		return verdict.Permitted
	}
	c.reach, c.empty = enipNothing, false
	by := -1
	for i := range c.rules {
		for _, command := range c.rules[i].Commands {
			if command == m.Command {
				c.choose(i, &by)
			}
		}
	}
	return c.chosen(by)
}

// EvalCIP judges the service that a walk has found, as far as it has arrived. The services around it and
// inside it are judged by calls of their own.
func (c *ENIPCheck) EvalCIP(w *cip.Walk) verdict.Verdict {
	var nothing ENIPSoFar
	return c.EvalMore(w, &nothing)
}

// EvalMore judges a service as EvalCIP does, of which a part was judged before: what that has settled is not
// looked at again. The reason of a denial is that of the rules that permitted the part.
func (c *ENIPCheck) EvalMore(w *cip.Walk, so *ENIPSoFar) verdict.Verdict {
	r := &w.Request
	switch {
	case !c.known:
		return verdict.Denied(verdict.ReasonNoConduit)
	case r.Seen == 0 || r.Code == cip.MultipleServicePacket && !r.PathKnown:
		return verdict.Permitted // judged when more has come
	case isCarrierOnly(r):
		return verdict.Permitted
	}
	c.reach, c.empty, c.skip, c.written = enipNothing, false, so.written, so.written
	by := -1
	for i := range c.rules {
		word, bit := &so.rules[i/64], uint64(1)<<(i%64)
		if so.begun && *word&bit == 0 {
			continue
		}
		*word &^= bit
		if c.looks++; c.permits(&c.rules[i], w) {
			*word |= bit
			c.choose(i, &by)
		}
	}
	so.begun, so.written = true, c.written
	return c.chosen(by)
}

// EvalMessage judges all services of a message, and returns the first verdict that is not an allow, having
// given back what the services before it cost.
func (c *ENIPCheck) EvalMessage(w *cip.Walk) verdict.Verdict {
	for w.Next() {
		if v := c.EvalCIP(w); !v.Allows() {
			c.Release()
			return v
		}
	}
	if w.Err() != nil {
		c.Release()
		return verdict.Denied(verdict.ReasonMalformed)
	}
	return verdict.Permitted
}

// PermitsOpening tells whether the plan would permit a Forward Open on an EtherNet/IP conduit, rates apart:
// for connections that are open when a plan changes. opening is the service from its code on, route the hops
// that led to where it was sent.
func (p *Plan) PermitsOpening(conduit uint32, opening []byte, route []cip.Hop) bool {
	return p.permitsOpening(conduit, opening, route, false)
}

// OutlivesSession tells whether the plan permits the Forward Open by a rule whose I/O goes on when the session
// that opened it has ended in order.
func (p *Plan) OutlivesSession(conduit uint32, opening []byte, route []cip.Hop) bool {
	return p.permitsOpening(conduit, opening, route, true)
}

func (p *Plan) permitsOpening(conduit uint32, opening []byte, route []cip.Hop, lasting bool) bool {
	var c ENIPCheck
	var w cip.Walk
	p.CheckENIP(&c, conduit, nil, time.Time{})
	c.lasting = lasting
	w.Start(opening, len(opening), route)
	return c.EvalMessage(&w).Allows()
}

// Looks returns how many rules and written values the check has looked at, for tests of what judging costs.
func (c *ENIPCheck) Looks() int { return c.looks }

// isCarrierOnly tells whether the service does nothing but carry others to where it is sent itself.
func isCarrierOnly(r *cip.Request) bool {
	return r.Is(cip.MultipleServicePacket, cip.AnyOwner) && r.Path.HasClass && r.Path.Class == cip.ClassMessageRouter &&
		len(r.Path.Hops()) == 0
}

// choose notes that a rule permits the service. One without a rate goes before one with.
func (c *ENIPCheck) choose(i int, by *int) {
	if !c.hasToken(i, false) {
		c.empty = true
		return
	}
	if *by < 0 || c.limited && c.rules[*by].Rate.Limited() && !c.rules[i].Rate.Limited() {
		*by = i
	}
}

func (c *ENIPCheck) chosen(by int) verdict.Verdict {
	switch {
	case by >= 0 && c.hasToken(by, true):
		return verdict.Permitted
	case by >= 0: // taken meanwhile, by who judges beside this
		return verdict.Denied(verdict.ReasonRateExceeded)
	case c.empty:
		return verdict.Denied(verdict.ReasonRateExceeded)
	}
	return verdict.Denied(c.reason())
}

func (c *ENIPCheck) reason() verdict.Reason {
	switch c.reach {
	case enipService:
		return verdict.ReasonRouteNotPermitted
	case enipRoute, enipPath:
		return verdict.ReasonPathNotPermitted
	case enipTag:
		return verdict.ReasonTagNotPermitted
	case enipValue:
		return verdict.ReasonValueNotPermitted
	}
	return verdict.ReasonServiceNotPermitted
}

// hasToken tells whether the rule may permit once more. If take, the token is taken, until Release.
func (c *ENIPCheck) hasToken(i int, take bool) bool {
	if !c.limited || !c.rules[i].Rate.Limited() {
		return true
	}
	buckets := c.left.lock()
	defer c.left.unlock()
	if i >= len(buckets) { // of another plan, or none: a limit is never lost
		return false
	}
	b := &buckets[i]
	b.fill(c.now)
	if b.tokens < 1-tolerance {
		return false
	}
	if take {
		b.tokens--
		c.need[i]++
	}
	return true
}

// Pay says that the message leaves: what rules with a rate have permitted is spent.
func (c *ENIPCheck) Pay() {
	if c.limited {
		c.need = [maxRules]uint16{}
	}
}

// Release gives back what rules with a rate have permitted of a message that does not leave, or not yet.
func (c *ENIPCheck) Release() {
	if !c.limited {
		return
	}
	buckets := c.left.lock()
	defer c.left.unlock()
	for i := range buckets {
		buckets[i].tokens += float64(c.need[i])
		c.need[i] = 0
	}
}

// permits tells whether the rule permits the service, as far as it has arrived.
func (c *ENIPCheck) permits(rule *ENIPRule, w *cip.Walk) bool {
	r := &w.Request
	if !rule.hasService(r) {
		return false
	}
	c.came(enipService)
	if !r.PathKnown {
		return true
	}
	if !rule.permitsRoute(w) {
		return false
	}
	c.came(enipRoute)
	if !c.permitsPath(rule, r) {
		return false
	}
	return c.permitsData(rule, r)
}

func (c *ENIPCheck) came(far enipReach) { c.reach = max(c.reach, far) }

// hasService tells whether the rule names the service. While the path has not arrived its owner is not
// known, and any may be.
func (rule *ENIPRule) hasService(r *cip.Request) bool {
	for _, s := range rule.Services {
		if s.Code == uint8(r.Code) && (s.Owner == OwnerAny || !r.PathKnown || s.Owner == r.Owner) {
			return true
		}
	}
	return false
}

// permitsRoute judges the route of a service that has one, and where it came from of any other.
func (rule *ENIPRule) permitsRoute(w *cip.Walk) bool {
	r := &w.Request
	outer, known := w.Route()
	var own [2 * cip.MaxHops]cip.Hop
	hops, carries := ownRoute(r, &own)
	if !carries {
		// While the hops around it are not known, those may be the rule's.
		return rule.Routes == nil || !known || rule.names(outer, nil)
	}
	if len(hops) == 0 && len(outer) == 0 {
		return true
	}
	return r.Seen < r.Length || !known || rule.names(outer, hops)
}

// ownRoute returns the hops that a service itself names, and whether it is one that carries a route: those of
// its path come first, and what they lead to goes on by those of its data.
func ownRoute(r *cip.Request, own *[2 * cip.MaxHops]cip.Hop) (hops []cip.Hop, carries bool) {
	ahead := copy(own[:], r.Path.Hops())
	hops, carries = own[:ahead], ahead > 0
	switch {
	case r.Is(cip.UnconnectedSend, OwnerConnectionManager):
		var route [cip.MaxHops]cip.Hop
		sent, _ := r.UnconnectedRoute(&route)
		return append(hops, sent...), true
	case opensConnection(r):
		var o cip.Open
		if r.ForwardOpen(&o) {
			hops = append(hops, o.Path.Hops()...)
		}
		return hops, true
	case r.Is(cip.ForwardClose, OwnerConnectionManager):
		var f cip.Close
		if r.ForwardClose(&f) {
			hops = append(hops, f.Path.Hops()...)
		}
		return hops, true
	}
	return hops, carries
}

func opensConnection(r *cip.Request) bool {
	return r.Is(cip.ForwardOpen, OwnerConnectionManager) || r.Is(cip.LargeForwardOpen, OwnerConnectionManager)
}

// names tells whether one of the rule's routes is the hops of outer and then those of own.
func (rule *ENIPRule) names(outer, own []cip.Hop) bool {
	for _, route := range rule.Routes {
		if len(route) != len(outer)+len(own) {
			continue
		}
		same := true
		for i, hop := range route {
			if i < len(outer) {
				same = same && hop.is(outer[i])
			} else {
				same = same && hop.is(own[i-len(outer)])
			}
		}
		if same {
			return true
		}
	}
	return false
}

// permitsPath judges the object or tag that a service names.
func (c *ENIPCheck) permitsPath(rule *ENIPRule, r *cip.Request) bool {
	p := &r.Path
	if p.Tag() != nil && !p.HasClass {
		c.came(enipTag)
		return rule.Classes == nil && rule.Instances == nil && rule.Attributes == nil && rule.permitsTag(r)
	}
	c.came(enipPath)
	if r.Code >= cip.FirstOwn && r.Owner != OwnerTags && p.HasClass && p.HasName() {
		return false // only tags have names, and their services have the codes of others
	}
	if rule.Tags != nil || rule.Classes != nil && !(p.HasClass && rule.Classes.Contains(p.Class)) {
		return false
	}
	// Behind a tag, such as a program's, instances count anew.
	if rule.Instances != nil && !(p.HasInstance && p.Tag() == nil && rule.Instances.Contains(p.Instance)) {
		return false
	}
	for _, o := range p.Parents() {
		if rule.Classes != nil && !rule.Classes.Contains(o.Class) || rule.Instances != nil && !rule.Instances.Contains(o.Instance) {
			return false
		}
	}
	return rule.Attributes == nil || rule.permitsAttributes(r)
}

// permitsTag judges a tag and the elements that the service touches; of a prefix, the first. Which elements lie in a part
// of a tag that the path names in bytes only the controller knows.
func (rule *ENIPRule) permitsTag(r *cip.Request) bool {
	if rule.Tags == nil {
		return true
	}
	if r.Path.HasPart() {
		return permitsWhole(rule.Tags, r.Path.Tag())
	}
	count := uint16(1)
	if r.Owner == OwnerTags {
		if a := r.TagAccess(); a.Known {
			count = a.Count
		}
	}
	return permitsTag(rule.Tags, r.Path.Tag(), count)
}

// permitsAttributes judges the attributes that a service names in its path, or in the list that it
// carries: each service has one place for them, and what stands in another the device does not read. A list
// with values behind the attributes can be read only while it has one, for their sizes are the device's.
func (rule *ENIPRule) permitsAttributes(r *cip.Request) bool {
	if namesByPath(r) {
		return r.Path.HasAttribute && rule.Attributes.Contains(r.Path.Attribute)
	}
	if r.Path.HasAttribute || r.Code != cip.GetAttributeList && r.Code != cip.SetAttributeList {
		return false
	}
	if !r.Complete() {
		return true
	}
	count := 0
	if len(r.Data) >= 4 {
		count = int(r.Data[0]) | int(r.Data[1])<<8
	}
	if count == 0 || len(r.Data) < 2+2*count ||
		r.Code == cip.GetAttributeList && len(r.Data) != 2+2*count || r.Code == cip.SetAttributeList && count != 1 {
		return false
	}
	for i := range count {
		if !rule.Attributes.Contains(uint32(r.Data[2+2*i]) | uint32(r.Data[3+2*i])<<8) {
			return false
		}
	}
	return true
}

// namesByPath tells whether the path says which attribute a service is about. Of an object's own services
// only the object knows; get_instance_attribute_list has a list.
func namesByPath(r *cip.Request) bool {
	switch r.Code {
	case cip.GetAttributeSingle, cip.SetAttributeSingle, cip.GetMember, cip.SetMember, cip.InsertMember, cip.RemoveMember:
		return true
	case cip.GetInstanceAttribute:
		return r.Owner != OwnerTags
	}
	return r.Code >= cip.FirstOwn
}

// permitsData judges what a service carries, once it has arrived.
func (c *ENIPCheck) permitsData(rule *ENIPRule, r *cip.Request) bool {
	switch {
	case r.Owner == OwnerTags:
		c.came(enipValue)
		return rule.Values == nil || c.permitsWritten(rule, r)
	case r.Is(cip.ExecutePCCC, OwnerPCCC):
		return c.permitsPCCC(rule.PCCC, r)
	case opensConnection(r) && r.Complete():
		return c.permitsOpen(rule.IO, r)
	}
	return true
}

// permitsWritten judges the values that a tag service writes. What it makes of a tag's bits depends on
// what the tag holds, unless the AND mask clears them all; then it is the OR mask, whatever its sign.
func (c *ENIPCheck) permitsWritten(rule *ENIPRule, r *cip.Request) bool {
	a := r.TagAccess()
	switch r.Code {
	case cip.WriteTag, cip.WriteTagFragmented:
		if !a.Known {
			return true
		}
		size := a.Type.Size()
		if size == 0 || a.Offset%uint32(size) != 0 || r.Path.HasPart() { // which may begin within an element
			return false
		}
		if !r.Complete() {
			a.Written = a.Written[:len(a.Written)-len(a.Written)%size]
		}
		more := a.Written[min(c.skip, len(a.Written)):]
		c.looks, c.written = c.looks+len(more)/size, len(a.Written)
		return permitsValues(rule.Values, a.Type, more)
	case cip.ReadModifyWriteTag:
		if !a.Known {
			return true
		}
		if r.Path.HasPart() {
			return false
		}
		for _, b := range a.AndMask {
			if b != 0 {
				return false
			}
		}
		signed, unsigned := integerTypes(len(a.OrMask))
		return signed != 0 && permitsValue(rule.Values, signed, a.OrMask) && permitsValue(rule.Values, unsigned, a.OrMask)
	}
	return true
}

func integerTypes(size int) (signed, unsigned cip.DataType) {
	switch size {
	case 1:
		return cip.SINT, cip.USINT
	case 2:
		return cip.INT, cip.UINT
	case 4:
		return cip.DINT, cip.UDINT
	case 8:
		return cip.LINT, cip.ULINT
	}
	return 0, 0
}

// permitsPCCC judges the command inside an Execute PCCC.
func (c *ENIPCheck) permitsPCCC(s *PCCCSelector, r *cip.Request) bool {
	command, ok := r.Command()
	if !ok || !command.FunctionKnown {
		return ok && !r.Complete()
	}
	if s == nil || s.Functions == nil {
		if !command.Function.Data() {
			c.reach = max(c.reach, enipPath)
			return false
		}
	} else if !hasFunction(s.Functions, command.Function) {
		c.came(enipPath)
		return false
	}
	if s == nil || s.Files == nil {
		return true
	}
	if !command.HasAddress {
		return !r.Complete()
	}
	c.came(enipPath)
	last := uint32(command.Element) + command.Elements - 1
	for _, f := range s.Files {
		if f.Letters != "" && f.Letters != command.Type.Letters() {
			continue
		}
		if f.File == command.File && f.Elements.Low <= uint32(command.Element) && last <= f.Elements.High {
			return true
		}
	}
	return false
}

// hasFunction tells whether the list has the function; a command without a function stands for all of its
// functions.
func hasFunction(list []cip.Function, f cip.Function) bool {
	for _, named := range list {
		if named == f || !named.HasSub && named.Command == f.Command {
			return true
		}
	}
	return false
}

// permitsOpen judges what a Forward Open opens: a connection for services, or one for I/O within the
// bounds. One that leads to any other object has a meaning that only the object knows.
func (c *ENIPCheck) permitsOpen(io *IOConnection, r *cip.Request) bool {
	var o cip.Open
	if !r.ForwardOpen(&o) {
		return false
	}
	if o.Explicit() && !o.Path.Safety {
		return true
	}
	if !o.IO() || io == nil || o.Path.Safety && !io.Safety || c.lasting && !io.OutliveSession {
		return false
	}
	if !io.permitsTarget(&o) {
		return false
	}
	c.came(enipValue)
	return io.Classes.permits(uint32(o.Class)) && io.permitsOwner(&o) &&
		io.permitsDirection(&o.ToTarget) && io.permitsDirection(&o.ToOriginator)
}

// permits tells whether v is selected; nil is any.
func (s Spans) permits(v uint32) bool { return s == nil || s.Contains(v) }

// permitsTarget judges what a connection carries: assemblies, the configuration's among them, or a
// produced tag.
func (io *IOConnection) permitsTarget(o *cip.Open) bool {
	if tag := o.Path.Tag(); tag != nil {
		return !o.Path.HasClass && io.Tags != nil && permitsTag(io.Tags, tag, 1)
	}
	if io.Assemblies == nil || !o.Path.AssembliesOnly() || len(o.Path.Points()) == 0 {
		return false
	}
	for _, point := range o.Path.Points() {
		if !io.Assemblies.Contains(point) {
			return false
		}
	}
	return true
}

// permitsOwner judges who would own the outputs. A configuration changes the device as they do, also one that comes
// with a null Forward Open: who may own nothing sends none.
func (io *IOConnection) permitsOwner(o *cip.Open) bool {
	if io.Owners == OwnsNothing && len(o.Path.ConfigData) > 0 {
		return false
	}
	return io.Owners == 0 || io.Owners&OwnerOf(o) != 0
}

func (io *IOConnection) permitsDirection(n *cip.NetworkParameters) bool {
	if n.Type == cip.TypeNull {
		return true
	}
	return (io.MaxSize == 0 || n.Size <= io.MaxSize) && n.RPI >= io.MinRPI && (io.MaxRPI == 0 || n.RPI <= io.MaxRPI)
}

// OwnerOf returns who would own the target's outputs by a Forward Open: a heartbeat, which is all that a
// connection sends that owns nothing, has no bytes but the sequence count.
func OwnerOf(o *cip.Open) IOOwners {
	heartbeat := uint16(0)
	if o.Class == 1 {
		heartbeat = 2
	}
	switch {
	case o.ToTarget.Type == cip.TypeNull || o.ToTarget.Size <= heartbeat:
		return OwnsNothing
	case o.ToTarget.Owner:
		return OwnsRedundantly
	}
	return OwnsExclusively
}
