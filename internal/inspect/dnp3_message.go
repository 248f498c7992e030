package inspect

import (
	"fmt"
	"strings"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
)

// dnp3Message is a decoded link frame, and the message that it completed or continued.
type dnp3Message struct {
	frame      dnp3.Frame
	message    dnp3.Message // valid where the frame carries data
	whole      bool         // the message is complete
	unselected bool         // an operate without the select that it repeats
}

func (m *dnp3Message) operation() string {
	switch {
	case !m.frame.CarriesData():
		return m.frame.Operation()
	case !m.message.Known():
		return "" // the code has not arrived
	}
	return m.message.Operation()
}

// changes tells a request that changes what the outstation does from one that reads, and calls what is
// not known a change.
func (m *dnp3Message) changes() bool {
	if !m.frame.CarriesData() || m.message.IsResponse {
		return false
	}
	switch m.message.Function {
	case dnp3.Confirm, dnp3.Read, dnp3.DelayMeasure, dnp3.RecordCurrentTime, dnp3.GetFileInfo,
		dnp3.AuthenticateFile, dnp3.AuthenticateRequest, dnp3.AuthenticateRequestNoAck:
		return false
	}
	return true
}

func (m *dnp3Message) fields() any {
	if !m.frame.CarriesData() || !m.message.Known() {
		return m.frame.Fields(nil)
	}
	return m.frame.Fields(&m.message)
}

// maxDetail is how many object headers, and how many of the objects behind one, a detail names.
const maxDetail = 4

// detail names the stations and what the message is about.
func (m *dnp3Message) detail() string {
	var b strings.Builder
	master, outstation := m.stations()
	fmt.Fprintf(&b, "master %d outstation %d", master, outstation)
	if !m.frame.CarriesData() || !m.message.Known() || m.message.IsResponse {
		return b.String()
	}
	if m.unselected {
		b.WriteString(" without its select")
	}
	count := 0
	for headers := m.message.Headers(); headers.Next() && headers.Named(); count++ {
		if count == maxDetail {
			b.WriteString(" …")
			break
		}
		describe(&b, &headers.Header)
	}
	return b.String()
}

// describe writes a header as people say it: "g12v1 point 3 latch_on", "g30v0 points 0-9".
func describe(b *strings.Builder, h *dnp3.Header) {
	fmt.Fprintf(b, " g%dv%d", h.Group, h.Variation)
	if h.Ranged() && h.PointsKnown() {
		if h.Start == h.Stop {
			fmt.Fprintf(b, " point %d", h.Start)
		} else {
			fmt.Fprintf(b, " points %d-%d", h.Start, h.Stop)
		}
	}
	count := 0
	for objects := h.Objects(); objects.Next(); count++ {
		if count == maxDetail {
			b.WriteString(" …")
			return
		}
		if h.Indexed() {
			fmt.Fprintf(b, " point %d", objects.Index)
		}
		if c, ok := h.Control(objects.Data); ok {
			fmt.Fprintf(b, " %s", c.Code)
		}
		if v, ok := h.Analog(objects.Data); ok {
			fmt.Fprintf(b, " value %g", v)
		}
		if f, ok := h.File(objects.Data); ok && f.Name != nil {
			fmt.Fprintf(b, " file %q", f.Name)
		}
	}
}
