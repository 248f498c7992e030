package inspect

import (
	"strconv"
	"strings"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// isEnvelope is the index of an encapsulated message among its own services.
const isEnvelope = -1

// layerCIP is the protocol's name of lines that are a service.
const layerCIP = "cip"

// enipMessage is one line of a message: the encapsulation, or a service inside. It holds where to look, and
// is read only if somebody asks.
type enipMessage struct {
	raw        []byte
	index      int // which service, as a walk counts, or isEnvelope
	command    enip.Command
	code       cip.ServiceCode
	owner      cip.Owner
	isResponse bool
	connection *enipConnection
	answered   *enipWaiting // what a response answers, where known
	verdict    verdict.Verdict
	why        string // a denial that is of no rule, for people
	malformed  string
}

func (m *enipMessage) layer() string {
	if m.index == isEnvelope {
		return ""
	}
	return layerCIP
}

// changes tells a request that may change the device from one that reads.
func (m *enipMessage) changes() bool {
	if m.isResponse || m.index == isEnvelope {
		return false
	}
	return cip.Changes(m.code, m.owner)
}

func (m *enipMessage) operation() string {
	switch {
	case m.index == isEnvelope && len(m.raw) < 2:
		return ""
	case m.index == isEnvelope:
		return m.command.String()
	case !m.isResponse:
		return cip.ServiceName(m.code, m.owner)
	}
	var w cip.Walk
	if m.request(&w) {
		return cip.ServiceName(m.code, w.Request.Owner)
	}
	return cip.ServiceName(m.code, cip.AnyOwner)
}

// payload returns the message read again, and its services.
func (m *enipMessage) payload() (message enip.Message, services []byte, ok bool) {
	direction := enip.Request
	if m.isResponse {
		direction = enip.Reply
	}
	_, _ = enip.Parse(m.raw, direction, &message) // of a prefix, what is there
	p := replyOf(&message)
	return message, p.payload, message.PayloadKnown
}

// walkTo reads the message up to the line's service.
func (m *enipMessage) walkTo(w *cip.Walk) (message enip.Message, ok bool) {
	message, services, ok := m.payload()
	if !ok {
		return message, false
	}
	var base []cip.Hop
	if m.connection != nil {
		base = m.connection.route()
	}
	length := message.PayloadLength
	if message.Connected {
		length -= 2
	}
	w.Start(services, length, base)
	for range m.index + 1 {
		if !w.Next() {
			return message, false
		}
	}
	return message, true
}

// request reads what a line of a response answers.
func (m *enipMessage) request(w *cip.Walk) bool {
	if m.answered == nil || !m.answered.services {
		return false
	}
	var base []cip.Hop
	if m.answered.connection != nil {
		base = m.answered.connection.route()
	}
	w.Start(m.answered.kept[:m.answered.keptLength], m.answered.keptLength, base)
	skip := m.index
	for w.Next() {
		q := &w.Request
		if q.Depth == 0 && q.Is(cip.UnconnectedSend, cip.ConnectionManager) && m.code != cip.UnconnectedSend {
			continue // what it carries is answered in its place
		}
		if skip == 0 {
			return q.PathKnown
		}
		skip--
	}
	return false
}

// detail names what the service is about, and what it was nested in; for a response, that of its request.
func (m *enipMessage) detail() string {
	if m.why != "" || m.index == isEnvelope {
		return m.why
	}
	var w cip.Walk
	found := false
	if m.isResponse {
		found = m.request(&w)
	} else {
		_, found = m.walkTo(&w)
	}
	if !found {
		return ""
	}
	parts := []string{aboutOf(&w.Request)}
	if outer, known := w.Route(); known && len(outer) > 0 {
		parts = append(parts, "by route "+string(cip.AppendRoute(nil, outer)))
	}
	if within := withinOf(&w); len(within) > 0 {
		parts = append(parts, "within "+strings.Join(within, ", "))
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

// aboutOf says what a service is about: its path, and what a tag, connection or PCCC service adds.
func aboutOf(q *cip.Request) string {
	about := q.Path.String()
	var o cip.Open
	var f cip.Close
	var hops [cip.MaxHops]cip.Hop
	switch {
	case q.ForwardOpen(&o):
		return about + " to " + o.Path.String() + " transport class " + strconv.Itoa(int(o.Class))
	case q.ForwardClose(&f):
		return about + " to " + f.Path.String()
	case q.Is(cip.UnconnectedSend, cip.ConnectionManager):
		route, _ := q.UnconnectedRoute(&hops)
		return about + " route " + string(cip.AppendRoute(nil, route))
	case q.Owner == cip.Tags:
		if a := q.TagAccess(); a.Known && a.Count > 1 {
			return about + " elements " + strconv.Itoa(int(a.Count))
		}
	}
	if c, ok := q.Command(); ok && c.FunctionKnown {
		about += " " + c.Function.String()
		if c.HasAddress {
			about += " " + c.Spelling()
		}
	}
	return about
}

func withinOf(w *cip.Walk) []string {
	var names []string
	for i := range w.Request.Depth {
		o := w.Within(i)
		names = append(names, cip.ServiceName(o.Code, o.Owner))
	}
	return names
}

func (m *enipMessage) fields() any {
	if m.index == isEnvelope {
		message, _, _ := m.payload()
		return message.Fields()
	}
	if m.isResponse {
		return m.responseFields()
	}
	var w cip.Walk
	message, ok := m.walkTo(&w)
	if !ok {
		return nil
	}
	f := w.Request.Fields()
	f.Within = withinOf(&w)
	f.Route = append(routeOf(&w), f.Route...)
	setConnection(&f, &message)
	return f
}

func routeOf(w *cip.Walk) []string {
	var f cip.Fields
	hops, _ := w.Route()
	f.SetRoute(hops)
	return f.Route
}

func setConnection(f *cip.Fields, m *enip.Message) {
	if m.Connected {
		f.Connection = new(m.ConnectionID)
		if len(m.Payload) >= 2 {
			f.Sequence = new(value16(m.Payload, 0))
		}
	}
}

// walkToReply reads the message up to the line's reply.
func (m *enipMessage) walkToReply(replies *cip.ReplyWalk) (message enip.Message, ok bool) {
	message, services, ok := m.payload()
	if !ok {
		return message, false
	}
	replies.Start(services)
	for range m.index + 1 {
		if !replies.Next() {
			return message, false
		}
	}
	return message, true
}

// responseFields returns the fields of a reply, with what its request named.
func (m *enipMessage) responseFields() any {
	var replies cip.ReplyWalk
	message, ok := m.walkToReply(&replies)
	if !ok {
		return nil
	}
	f := replies.Reply.Fields()
	setConnection(&f, &message)
	var w cip.Walk
	if !m.request(&w) {
		return f
	}
	f.SetPath(&w.Request.Path)
	f.Within, f.Route = withinOf(&w), append(routeOf(&w), w.Request.Fields().Route...)
	var opened cip.Opened
	if w.Request.Owner == cip.ConnectionManager && (m.code == cip.ForwardOpen || m.code == cip.LargeForwardOpen) &&
		replies.Reply.Status == cip.StatusSuccess && replies.Reply.ForwardOpened(&opened) {
		f.Opened = []uint32{opened.ToTarget, opened.ToOriginator}
	}
	return f
}
