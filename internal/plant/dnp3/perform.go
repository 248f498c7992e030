package dnp3

import (
	"encoding/binary"
	"time"
)

// perform does what a request asks for, and returns the bodies of the reply.
func (o *Outstation) perform(a *association, f Fragment) ([]built, IIN) {
	switch f.Function {
	case Read:
		return o.read(a, f)
	case Write:
		return o.write(a, f)
	case Select, Operate, DirectOperate, DirectOperateNR:
		body, iin := o.control(a, f)
		return []built{{body: body}}, iin
	case ImmediateFreeze, ImmediateFreezeNR, FreezeClear, FreezeClearNR:
		return nil, o.freeze(a, f)
	case ColdRestart, WarmRestart:
		return o.restart(a, f.Function), 0
	case EnableUnsolicited, DisableUnsolicited:
		return nil, o.enable(a, f)
	case AssignClass:
		return nil, o.assign(a, f)
	case DelayMeasure:
		return []built{{body: Spell(Kind{52, 2}, 0x07, Object{Data: []byte{0, 0}})}}, 0
	case RecordCurrentTime:
		o.recorded = o.now()
		o.record(Operation{Function: f.Function, Master: a.master})
		return nil, 0
	case InitializeApplication, StartApplication, StopApplication, SaveConfiguration:
		o.record(Operation{Function: f.Function, Master: a.master})
		return nil, 0
	case OpenFile, CloseFile, DeleteFile, GetFileInfo, AuthenticateFile, AbortFile:
		return o.fileRequest(a, f)
	}
	return nil, IINNoFunction
}

// headers reads the headers of a request. Loosely, those before what cannot be read count.
func (o *Outstation) headers(f Fragment) ([]Header, IIN) {
	headers, err := ParseHeaders(f.Body, f.Function)
	if err != nil && !o.personality.IgnoresTail {
		return nil, IINParameter
	}
	return headers, 0
}

// read answers a READ: events first, as they are in the classes' order, then what is static.
func (o *Outstation) read(a *association, f Fragment) ([]built, IIN) {
	headers, iin := o.headers(f)
	if iin != 0 {
		return nil, iin
	}
	pack := newBuilder(o.config.FragmentSize - 4)
	taken := make(map[*event]bool)
	for i := range headers {
		h := &headers[i]
		switch {
		case h.Group == 60 && h.Variation == 1:
			for _, group := range staticGroups {
				iin |= o.addStatic(pack, &Header{Kind: Kind{group, 0}, Qualifier: QualifierAll})
			}
		case h.Group == 60 && h.Variation >= 2 && h.Variation <= 4:
			class := h.Variation - 1
			o.addEvents(pack, a, h, taken, func(e *event) bool { return e.class == class })
		case h.Group == 2 || h.Group == 22 || h.Group == 32:
			group := h.Group
			o.addEvents(pack, a, h, taken, func(e *event) bool { return eventGroups[e.static] == group })
		case h.Group == 50 && h.Variation == 1:
			pack.appendWhole(Spell(h.Kind, 0x07, Object{Data: appendTime(nil, o.now().Add(o.clock))}))
		case h.Kind == Kind{70, 5}:
			pack.appendWhole(o.readBlock(h))
		default:
			iin |= o.addStatic(pack, h)
		}
	}
	return pack.bodies, iin
}

// appendWhole appends a header with its objects, which nothing later joins.
func (p *builder) appendWhole(b []byte) {
	last := &p.bodies[len(p.bodies)-1]
	if len(last.body)+len(b) > p.limit && len(last.body) > 0 {
		p.bodies = append(p.bodies, built{})
		last = &p.bodies[len(p.bodies)-1]
	}
	last.body = append(last.body, b...)
	p.at = -1
}

func (o *Outstation) addStatic(pack *builder, h *Header) IIN {
	list := o.points.of(h.Group)
	if list == nil {
		return IINObjectUnknown
	}
	k := h.Kind
	if k.Variation == 0 {
		k.Variation = defaults[k.Group]
	}
	if encode(k, 0, time.Time{}) == nil {
		return IINObjectUnknown
	}
	one := func(i uint32) { pack.add(k, i, encode(k, list[i].value, time.Time{}), nil) }
	switch {
	case h.rangeCode() == rangeAll:
		for i := range list {
			one(uint32(i))
		}
	case len(h.Objects) > 0:
		for _, object := range h.Objects {
			if int(object.Index) >= len(list) {
				return IINParameter
			}
			one(object.Index)
		}
	case h.rangeCode() > rangeAll:
		for i := range min(h.Count, uint32(len(list))) {
			one(i)
		}
	case h.Stop >= uint32(len(list)):
		return IINParameter
	default:
		for i := h.Start; i <= h.Stop; i++ {
			one(i)
		}
	}
	return 0
}

// addEvents adds events that a header asks for, as many as it says.
func (o *Outstation) addEvents(pack *builder, a *association, h *Header, taken map[*event]bool, match func(*event) bool) {
	left := len(a.events)
	if h.rangeCode() > rangeAll {
		left = int(min(h.Count, maxEvents))
	}
	for _, e := range a.events {
		if left == 0 {
			return
		}
		if !e.sent && !taken[e] && match(e) {
			variation := uint8(0)
			if h.Group != 60 {
				variation = h.Variation
			}
			taken[e] = true
			o.addEvent(pack, e, variation)
			left--
		}
	}
}

func (o *Outstation) addEvent(pack *builder, e *event, variation uint8) {
	k := Kind{eventGroups[e.static], variation}
	if variation == 0 {
		k.Variation = defaults[k.Group]
	}
	data := encode(k, e.value, e.at)
	if data == nil {
		k.Variation = defaults[k.Group]
		data = encode(k, e.value, e.at)
	}
	pack.add(k, e.index, data, e)
}

// write handles times, the restart indication, blocks of files and, loosely, outputs.
func (o *Outstation) write(a *association, f Fragment) (reply []built, iin IIN) {
	headers, iin := o.headers(f)
	if iin != 0 {
		return nil, iin
	}
	for i := range headers {
		h := &headers[i]
		switch {
		case h.Kind == Kind{50, 1} && len(h.Objects) == 1:
			o.setClock(a, h, o.now())
		case h.Kind == Kind{50, 3} && len(h.Objects) == 1 && !o.recorded.IsZero():
			o.setClock(a, h, o.recorded)
		case h.Kind == Kind{80, 1}:
			iin |= o.clearRestart(a, h)
		case h.Kind == Kind{70, 5} && len(h.Objects) == 1:
			reply = append(reply, built{body: o.writeBlock(a, h.Objects[0].Data)})
		case h.Group == 10 && o.personality.WritesOutput:
			iin |= o.writeOutputs(a, h)
		default:
			iin |= IINObjectUnknown
		}
	}
	return reply, iin
}

func (o *Outstation) setClock(a *association, h *Header, from time.Time) {
	b := h.Objects[0].Data
	ms := int64(binary.LittleEndian.Uint32(b)) | int64(binary.LittleEndian.Uint16(b[4:]))<<32
	o.clock = time.UnixMilli(ms).Sub(from)
	o.needTime = false
	o.record(Operation{Function: Write, Kind: h.Kind, Value: float64(ms), Master: a.master})
}

// clearRestart is the only indication that a master may write (IEEE 1815 annex A, group 80).
func (o *Outstation) clearRestart(a *association, h *Header) IIN {
	const restart = 7
	for _, object := range h.Objects {
		if object.Index != restart || object.Data[0] != 0 {
			return IINParameter
		}
		o.restarted = false
		o.sticky = 0
		o.record(Operation{Function: Write, Kind: h.Kind, Index: restart, Master: a.master})
	}
	return 0
}

func (o *Outstation) writeOutputs(a *association, h *Header) IIN {
	for _, object := range h.Objects {
		if int(object.Index) >= len(o.points.binaryOutputs) {
			return IINParameter
		}
		o.points.binaryOutputs[object.Index].value = float64(object.Data[0] & 1)
		o.record(Operation{Function: Write, Kind: h.Kind, Index: object.Index, Value: float64(object.Data[0]), Master: a.master})
	}
	return 0
}

func (o *Outstation) freeze(a *association, f Fragment) IIN {
	headers, iin := o.headers(f)
	for i := range headers {
		h := &headers[i]
		if h.Group != 20 {
			return IINObjectUnknown
		}
		first, last := uint32(0), uint32(len(o.points.counters)-1)
		if h.rangeCode() < rangeAll {
			first, last = h.Start, h.Stop
		}
		if int(last) >= len(o.points.counters) {
			return IINParameter
		}
		for j := first; j <= last; j++ {
			o.points.frozen[j].value = o.points.counters[j].value
			if f.Function == FreezeClear || f.Function == FreezeClearNR {
				o.points.counters[j].value = 0
			}
		}
		o.record(Operation{Function: f.Function, Kind: h.Kind, Index: first, Master: a.master})
	}
	return iin
}

// restart promises to be back in half a second, and is back at once.
func (o *Outstation) restart(a *association, f Function) []built {
	o.record(Operation{Function: f, Master: a.master})
	o.restarted, o.needTime = true, true
	for _, each := range o.associations {
		each.selected = selection{}
		each.unsolicited.forget()
		each.unsolicited.announced = false
		each.unsolicited.enabled = [4]bool{}
		o.announce(each)
	}
	return []built{{body: Spell(Kind{52, 2}, 0x07, Object{Data: []byte{0xf4, 0x01}})}}
}

func (o *Outstation) enable(a *association, f Fragment) IIN {
	headers, iin := o.headers(f)
	for i := range headers {
		h := &headers[i]
		if h.Group != 60 || h.Variation < 2 || h.Variation > 4 {
			iin |= IINObjectUnknown
			continue
		}
		a.unsolicited.enabled[h.Variation-1] = f.Function == EnableUnsolicited
		o.record(Operation{Function: f.Function, Kind: h.Kind, Master: a.master})
	}
	return iin
}

// assign gives the points of the headers after each g60 that class.
func (o *Outstation) assign(a *association, f Fragment) IIN {
	headers, iin := o.headers(f)
	class := uint8(0)
	for i := range headers {
		h := &headers[i]
		if h.Group == 60 {
			class = h.Variation - 1
			continue
		}
		list := o.points.of(h.Group)
		if eventGroups[h.Group] == 0 {
			return iin | IINObjectUnknown
		}
		for j := range list {
			named := h.rangeCode() == rangeAll || uint32(j) >= h.Start && uint32(j) <= h.Stop
			if named && class < 4 {
				list[j].class = class
			}
		}
		o.record(Operation{Function: f.Function, Kind: h.Kind, Value: float64(class), Master: a.master})
	}
	return iin
}
