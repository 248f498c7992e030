package inspect

import (
	"time"

	"github.com/penstock-ot/penstock/dissectors/modbus"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// refusal is what a request that went on neutralised is to be refused with.
type refusal struct {
	exception modbus.ExceptionCode // 0: the request was not refused
	reason    verdict.Reason
	// fence says that a server that frames by function code flushes what follows the neutralised
	// request, and may begin to read in the middle of a message that comes in pieces.
	fence bool
}

func (r refusal) active() bool { return r.exception != 0 }

// refuse neutralises a denied request of n bytes at the front of b, so that the device itself
// refuses it, and has its reply rewritten into the exception that the client is owed. What cannot
// be refused so is denied, which ends the connection: a request of which bytes have left before,
// one without a harmless form of its length, and one that there is no room to remember.
func (s *modbusSession) refuse(r *reading, b []byte, n int, v verdict.Verdict, w *waiting) step {
	denied := step{size: n, verdict: v}
	if !r.exceptions || w == nil || len(b) > r.fresh {
		return denied
	}
	code := s.dissector.exceptionFor(r, &w.request, v.Reason)
	if code == 0 {
		return denied
	}
	edited := append(s.dissector.edited[:0], b[:n]...)
	now, ok := modbus.Neutralise(edited)
	if !ok {
		return denied
	}
	s.requests.refuse(w, refusal{exception: code, reason: v.Reason, fence: now.Flushes()})
	return step{size: n, verdict: verdict.Permitted, edited: edited}
}

// exceptionFor returns the code that says why a request is refused (AP 7), 0 if none does.
func (m *modbusDissector) exceptionFor(r *reading, q *modbus.Request, why verdict.Reason) modbus.ExceptionCode {
	switch why {
	case verdict.ReasonFunctionNotPermitted, verdict.ReasonUnitNotPermitted:
		return modbus.IllegalFunction
	case verdict.ReasonAddressNotPermitted:
		if m.unmeasured(r.plan).EvalModbus(r.conduit, q).Allows() {
			return modbus.IllegalDataValue // only the quantity is too large
		}
		return modbus.IllegalDataAddress
	case verdict.ReasonValueNotPermitted:
		return modbus.IllegalDataValue
	case verdict.ReasonRateExceeded:
		return modbus.ServerDeviceBusy // the same request is permitted later
	}
	return 0
}

// unmeasured returns the plan's Modbus rules without max_quantity. It is made once for each plan.
func (m *modbusDissector) unmeasured(plan *policy.Plan) *policy.Plan {
	if plan == m.measured {
		return m.without
	}
	conduits := append([]policy.Conduit(nil), plan.Conduits...)
	for i := range conduits {
		rules := append([]policy.ModbusRule(nil), conduits[i].Modbus...)
		for k := range rules {
			rules[k].MaxQuantity = 0
		}
		conduits[i].Modbus = rules
	}
	m.measured, m.without = plan, &policy.Plan{Conduits: conduits}
	return m.without
}

// held refuses for now what a client sends behind a neutralised request whose end a device may
// not see as we do: it would be flushed, or read from its middle on. The client repeats it.
func (s *modbusSession) held() step {
	return step{verdict: verdict.Denied(verdict.ReasonTableFull)}
}

// refused turns the device's reply to a neutralised request into the client's exception.
func (s *modbusSession) refused(r *reading, b []byte, m *modbusMessage, w *waiting) step {
	edited := append(s.dissector.edited[:0], b...)
	modbus.WriteException(edited, w.request.Function, w.refusal.exception)
	m.response.Function, m.response.Exception = w.request.Function, w.refusal.exception
	s.record(r, stream.FromResponder, verdict.Permitted, m)
	return step{size: len(b), verdict: verdict.Permitted, edited: edited}
}

// refusedPrefix lets the beginning of a reply pass. The header of one to a neutralised request says
// the same as the exception's; the function code, if it has come without what follows, does not.
func (s *modbusSession) refusedPrefix(b []byte, m *modbusMessage) step {
	passed := step{verdict: verdict.Permitted}
	if w := s.requests.claims(&m.response); w != nil && w.refusal.active() {
		passed.edited = append(s.dissector.edited[:0], b...)
		modbus.WriteException(passed.edited, w.request.Function, w.refusal.exception)
	}
	return passed
}

// refuses reports whether a reply has the transaction and unit of a request that was refused.
func (o *outstanding) refuses(r *modbus.Response) bool {
	if o.refused == 0 {
		return false
	}
	for _, w := range o.list {
		if w.refusal.active() && w.request.Transaction == r.Transaction && w.request.Unit == r.Unit {
			return true
		}
	}
	return false
}

// overdue returns why the first of the requests was refused whose neutralised form the device has
// not answered in time, ReasonNone if there is none.
func (o *outstanding) overdue(now time.Time, patience time.Duration) verdict.Reason {
	if o.refused == 0 {
		return verdict.ReasonNone
	}
	for _, w := range o.list {
		if w.refusal.active() && now.Sub(w.since) > patience {
			return w.refusal.reason
		}
	}
	return verdict.ReasonNone
}

// fencedBy returns the verdict on the first request of the list that is a fence, and an allow
// where none is.
func (o *outstanding) fencedBy() verdict.Verdict {
	if o.fences > 0 {
		for _, w := range o.list {
			if w.refusal.fence {
				return verdict.Denied(w.refusal.reason)
			}
		}
	}
	return verdict.Permitted
}

// fenced reports whether a fence was forwarded and has no reply yet.
func (o *outstanding) fenced() bool {
	if o.fences > 0 {
		for _, w := range o.list[:len(o.list)-o.added] {
			if w.refusal.fence {
				return true
			}
		}
	}
	return false
}
