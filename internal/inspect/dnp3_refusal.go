package inspect

import (
	"bytes"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// refuse neutralises a denied request whose frame of n bytes is at the front of b, so that the
// outstation itself refuses it. What cannot be refused so is denied, which ends the connection: a request
// of which bytes have left before, one in several frames, one that nobody answers and that has no silent
// form, and one whose sequence number others wait with.
//
// The write that clears the restart indication is not refused but passed over in silence: a master that
// hears a refusal repeats it at once, and for ever.
func (s *dnp3Session) refuse(r *reading, b []byte, n int, m *dnp3Message, pair *dnp3Pair, v verdict.Verdict) step {
	denied := step{size: n, verdict: v}
	if !r.exceptions || len(b) > r.fresh || pair.waiting[m.message.Sequence].count > 0 {
		return denied
	}
	reply := m.message.Function.Answered() && !dnp3.Broadcast(pair.outstation) && !clearsRestart(&m.message)
	if !reply && m.message.Function != dnp3.DirectOperateNoReply && !clearsRestart(&m.message) {
		return denied
	}
	edited := append(s.dissector.edited[:0], b[:n]...)
	if !s.dissector.editor.Neutralise(edited, reply) {
		return denied
	}
	if reply {
		pair.waiting[m.message.Sequence].add(m.message.Sequence, v.Reason, r.now)
	}
	return step{size: n, verdict: verdict.Permitted, edited: edited}
}

// clearsRestart tells whether a request writes internal indications and nothing else: of these, masters
// write one.
func clearsRestart(m *dnp3.Message) bool {
	if m.Function != dnp3.Write {
		return false
	}
	count := 0
	for headers := m.Headers(); headers.Next(); count++ {
		if headers.Group != dnp3.GroupIndication {
			return false
		}
	}
	return count > 0
}

// refused turns the outstation's answer to a neutralised request into the refusal that the master is
// owed. An answer that is none, or of which other bytes have left, ends the connection.
func (s *dnp3Session) refused(r *reading, b []byte, n int, m *dnp3Message, w *dnp3Waiting) step {
	denied := step{size: n, verdict: verdict.Denied(w.refused)}
	if n == 0 {
		// The link header and what says the same in the refusal may leave.
		if m.frame.Seen < refusalDiffers && m.frame.Size() == dnp3.RefusalLength && m.message.Sequence == w.sequence {
			return step{verdict: verdict.Permitted}
		}
		s.record(r, stream.FromResponder, denied.verdict, m)
		return denied
	}
	edited := append(s.dissector.edited[:0], b[:n]...)
	gone := max(0, len(b)-r.fresh)
	if !m.message.Refusal() || !s.dissector.editor.WriteRefusal(edited, w.sequence) || !bytes.Equal(edited[:min(gone, n)], b[:min(gone, n)]) {
		s.record(r, stream.FromResponder, denied.verdict, m)
		return denied
	}
	m.message.Sequence, m.message.IIN = w.sequence, m.message.IIN|dnp3.IINNoFunctionCode
	w.take()
	s.record(r, stream.FromResponder, verdict.Permitted, m)
	return step{size: n, verdict: verdict.Permitted, edited: edited}
}

// refusalDiffers is the first byte of a refusal's frame that the outstation may have sent otherwise,
// where it has the sequence number right: the second octet of indications.
const refusalDiffers = dnp3.RefusalLength - 3
