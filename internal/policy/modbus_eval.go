package policy

import (
	"bytes"
	"time"

	"github.com/penstock-ot/penstock/dissectors/modbus"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// EvalModbus judges a request on a Modbus conduit of the plan, without regard to rates (see
// EvalModbusRate). It does not allocate, and it may be called from any goroutine.
//
// # What the rules say together
//
// Rules only permit, so they add up. Every register, coil or record that a request names must be
// permitted by at least one rule that has the request's function and unit; a value is judged by a
// rule that covers the register it is written to. So [{addresses: [0-9]}, {addresses: [10-19]}]
// permits a read of 5 to 14. A selector that is not about addresses belongs to its rule: units,
// max_quantity, sub_functions and the rest hold or do not hold for the request as a whole.
//
// Function 23 writes and reads. What it writes needs rules with function 23, values included. What
// it reads needs rules with function 23 or with function 3: it is the same read.
//
// Function 22 writes a value that depends on what the register holds. Under a rule with values it
// is permitted only if its AND mask is 0, for then the value is its OR mask.
//
// # Which reason
//
// The reason is that of the rule that came furthest: function, unit, then what the function has
// (sub-function, MEI type and payload count as function), address, value.
//
// # Prefixes
//
// Of a request that has not arrived whole only the fields that have are judged. A denial is final:
// no continuation of the bytes could be permitted. Allow then says only that one might be. A request
// that was not parsed, and so has seen no bytes, counts as whole.
func (p *Plan) EvalModbus(conduit uint32, r *modbus.Request) verdict.Verdict {
	rules, ok := p.modbusRules(conduit)
	if !ok {
		return verdict.Denied(verdict.ReasonNoConduit)
	}
	e := evaluation{rules: rules, r: r}
	return e.verdict()
}

// EvalModbusRate judges a whole request as EvalModbus does, and takes one token from each rule that
// it needs. A rule without a token permits nothing; where only that is in the way the reason is
// rate_exceeded. rates must come from this plan's NewRates.
func (p *Plan) EvalModbusRate(conduit uint32, r *modbus.Request, rates *Rates, now time.Time) verdict.Verdict {
	rules, ok := p.modbusRules(conduit)
	if !ok {
		return verdict.Denied(verdict.ReasonNoConduit)
	}
	left := rates.of(conduit)
	e := evaluation{rules: rules, r: r, tokens: tokens{buckets: left.lock(), now: now}}
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
		free := evaluation{rules: rules, r: r}
		if free.verdict().Allows() {
			return verdict.Denied(verdict.ReasonRateExceeded)
		}
		return free.verdict()
	}
	return v
}

func (p *Plan) modbusRules(conduit uint32) ([]ModbusRule, bool) {
	if int(conduit) >= len(p.Conduits) || p.Conduits[conduit].Protocol != ProtocolModbus {
		return nil, false
	}
	return p.Conduits[conduit].Modbus, true
}

// reached is how far a rule came, in the order of the reasons.
type reached uint8

const (
	reachedNothing reached = iota
	reachedFunction
	reachedUnit
	reachedAddress
)

// evaluation judges one request. It lives on the caller's stack.
type evaluation struct {
	rules []ModbusRule
	r     *modbus.Request
	reach reached

	tokens
}

func (e *evaluation) verdict() verdict.Verdict {
	if e.permitted() {
		return verdict.Permitted
	}
	switch e.reach {
	case reachedFunction:
		return verdict.Denied(verdict.ReasonUnitNotPermitted)
	case reachedUnit:
		return verdict.Denied(e.detailReason())
	case reachedAddress:
		return verdict.Denied(verdict.ReasonValueNotPermitted)
	}
	return verdict.Denied(verdict.ReasonFunctionNotPermitted)
}

// detailReason is the reason where function and unit are permitted and what comes next is not.
func (e *evaluation) detailReason() verdict.Reason {
	switch f := e.r.Function; {
	case hasAddress(f), f == modbus.ReadFileRecord, f == modbus.WriteFileRecord:
		return verdict.ReasonAddressNotPermitted
	}
	return verdict.ReasonFunctionNotPermitted
}

// has tells whether so many bytes of the message have arrived.
func (e *evaluation) has(bytes int) bool {
	return e.r.Seen >= bytes || e.r.Seen == 0 || e.r.Complete()
}

// The numbers of bytes, from the message's first, with which fields have arrived.
const (
	seenFunction = 8
	seenAddress  = 10 // or the sub-function
	seenQuantity = 12 // or the AND mask
	seenORMask   = 14
	seenMEIType  = 9

	seenWriteAddress, seenWriteQuantity = 14, 16 // function 23
)

func (e *evaluation) permitted() bool {
	if !e.has(seenFunction) {
		return true
	}
	switch f := e.r.Function; {
	case f == modbus.ReadWriteMultipleRegisters:
		return e.readWrite()
	case f == modbus.ReadFileRecord || f == modbus.WriteFileRecord:
		return e.records()
	case hasAddress(f):
		return e.addressed()
	}
	return e.other()
}

// candidate tells whether the rule has the function and the request's unit.
func (e *evaluation) candidate(i int, f modbus.FunctionCode) bool {
	rule := &e.rules[i]
	if !rule.Functions.Has(uint8(f)) || e.empty.Has(uint8(i)) {
		return false
	}
	e.reach = max(e.reach, reachedFunction)
	if !rule.Units.Has(e.r.Unit) {
		return false
	}
	e.reach = max(e.reach, reachedUnit)
	return true
}

// addressed judges functions with one range: 1 to 6, 15, 16, 22 and 24.
func (e *evaluation) addressed() bool {
	r := e.r
	part := block{function: r.Function, also: r.Function, start: uint32(r.Address)}
	switch {
	case !e.has(seenAddress):
		return e.anyCandidate(r.Function)
	case r.Function == modbus.WriteSingleCoil, r.Function == modbus.WriteSingleRegister, r.Function == modbus.ReadFIFOQueue:
		part.count, part.quantity = 1, 1
	case r.Function == modbus.MaskWriteRegister:
		part.count, part.quantity = 1, 1
		part.mask = e.has(seenORMask)
	case !e.has(seenQuantity):
		part.count = 1 // at least one; how many is not known
	default:
		part.count, part.quantity = uint32(r.Quantity), r.Quantity
	}
	if writesValues(r.Function) && r.Function != modbus.MaskWriteRegister {
		part.values = r.Values
	}
	return e.covered(&part)
}

// readWrite judges function 23: what it writes, and what it reads.
func (e *evaluation) readWrite() bool {
	r := e.r
	if !e.has(seenAddress) {
		return e.anyCandidate(r.Function)
	}
	read := block{function: r.Function, also: modbus.ReadHoldingRegisters, start: uint32(r.Address), count: 1}
	if e.has(seenQuantity) {
		read.count, read.quantity = uint32(r.Quantity), r.Quantity
	}
	if !e.covered(&read) {
		return false
	}
	if !e.has(seenWriteAddress) {
		return e.anyCandidate(r.Function)
	}
	write := block{function: r.Function, also: r.Function, start: uint32(r.WriteAddress), count: 1, values: r.Values}
	if e.has(seenWriteQuantity) {
		write.count, write.quantity = uint32(r.WriteQuantity), r.WriteQuantity
	}
	return e.covered(&write)
}

func (e *evaluation) anyCandidate(f modbus.FunctionCode) bool {
	for i := range e.rules {
		if e.candidate(i, f) {
			return true
		}
	}
	return false
}

// block is a run of registers or coils that a request names.
type block struct {
	function, also modbus.FunctionCode // rules with either may permit it
	start, count   uint32
	quantity       uint16 // for max_quantity; 0 while it is not known
	values         []byte // what is written, as far as it has arrived
	mask           bool   // the value is what the masks of function 22 make of it
}

// covered walks through the block: from where the rules have come so far, the rule that permits
// the longest run goes on.
func (e *evaluation) covered(b *block) bool {
	for at, end := b.start, b.start+b.count; at < end; {
		e.reach = reachedNothing
		next, by := at, -1
		for i := range e.rules {
			if !e.candidate(i, b.function) && (b.also == b.function || !e.candidate(i, b.also)) {
				continue
			}
			if b.quantity > e.rules[i].MaxQuantity && e.rules[i].MaxQuantity != 0 {
				continue
			}
			stop := e.run(&e.rules[i], b, at, end)
			if stop > next || stop == next && stop > at && e.cheaper(i, by) {
				next, by = stop, i
			}
		}
		if by < 0 {
			return false
		}
		e.used.Add(uint8(by))
		at = next
	}
	return true
}

// cheaper tells whether rule i costs no token while rule by does.
func (e *evaluation) cheaper(i, by int) bool {
	return e.costs(by, e.rules[by].Rate) && !e.costs(i, e.rules[i].Rate)
}

// run returns how far the rule permits the block, beginning with at.
func (e *evaluation) run(rule *ModbusRule, b *block, at, end uint32) uint32 {
	if rule.Addresses != nil {
		last, ok := rule.Addresses.end(at)
		if !ok {
			return at
		}
		end = min(end, last+1)
	}
	e.reach = reachedAddress
	if rule.Values == nil || !writesValues(b.function) {
		return end
	}
	for ; at < end; at++ {
		v, known := b.value(e.r, at-b.start)
		if known && !rule.Values.Contains(v) {
			return at
		}
	}
	return end
}

// noValue is what no rule permits.
const noValue = 1 << 16

// value returns what is written to the block's i-th register or coil, and whether it is known yet.
func (b *block) value(r *modbus.Request, i uint32) (v uint32, known bool) {
	switch r.Function {
	case modbus.MaskWriteRegister:
		if !b.mask {
			return 0, false
		}
		if r.AndMask != 0 {
			return noValue, true
		}
		return uint32(r.OrMask), true
	case modbus.WriteMultipleCoils:
		if int(i/8) >= len(b.values) {
			return 0, false
		}
		return uint32(b.values[i/8]>>(i%8)) & 1, true
	}
	if int(2*i+1) >= len(b.values) {
		return 0, false
	}
	v = uint32(b.values[2*i])<<8 | uint32(b.values[2*i+1])
	if r.Function == modbus.WriteSingleCoil {
		v = min(v, 1) // 0xff00 is on
	}
	return v, true
}

// records judges functions 20 and 21, record by record.
func (e *evaluation) records() bool {
	if !e.anyCandidate(e.r.Function) {
		return false
	}
	for c := e.r.Records(); c.Next(); {
		if !e.recordsCovered(&c.Record) {
			return false
		}
	}
	return true
}

// recordsCovered walks through one record list as covered walks through a block.
func (e *evaluation) recordsCovered(record *modbus.Record) bool {
	for at, end := uint32(record.Number), uint32(record.Number)+uint32(record.Length); at < end; {
		e.reach = reachedNothing
		next, by := at, -1
		for i := range e.rules {
			if !e.candidate(i, e.r.Function) {
				continue
			}
			stop := e.recordRun(&e.rules[i], record, at, end)
			if stop > next || stop == next && stop > at && e.cheaper(i, by) {
				next, by = stop, i
			}
		}
		if by < 0 {
			return false
		}
		e.used.Add(uint8(by))
		at = next
	}
	return true
}

func (e *evaluation) recordRun(rule *ModbusRule, record *modbus.Record, at, end uint32) uint32 {
	stop := at
	if rule.Files == nil {
		stop = end
	}
	for i := range rule.Files {
		f := &rule.Files[i]
		if f.File == record.File && f.Records.Low <= at && at <= f.Records.High {
			stop = max(stop, min(end, f.Records.High+1))
		}
	}
	if stop == at {
		return at
	}
	e.reach = reachedAddress
	if rule.Values == nil || record.Data == nil {
		return stop
	}
	for ; at < stop; at++ {
		i := 2 * (at - uint32(record.Number))
		if !rule.Values.Contains(uint32(record.Data[i])<<8 | uint32(record.Data[i+1])) {
			return at
		}
	}
	return stop
}

// other judges functions without addresses: one rule has to permit the request as it is.
func (e *evaluation) other() bool {
	by := -1
	for i := range e.rules {
		if e.candidate(i, e.r.Function) && e.details(&e.rules[i]) && (by < 0 || e.cheaper(i, by)) {
			by = i
		}
	}
	if by >= 0 {
		e.used.Add(uint8(by))
	}
	return by >= 0
}

func (e *evaluation) details(rule *ModbusRule) bool {
	r := e.r
	switch {
	case r.Function == modbus.Diagnostics:
		return !e.has(seenAddress) || rule.SubFunctions.Contains(uint32(r.SubFunction))
	case r.Function == modbus.EncapsulatedInterfaceTransport:
		return !e.has(seenMEIType) || rule.MEITypes.Has(r.MEIType)
	case rule.PayloadPrefixes != nil && !r.Function.Public():
		return e.payload(rule)
	}
	return true
}

// payload compares the body with the prefixes, as far as it has arrived.
func (e *evaluation) payload(rule *ModbusRule) bool {
	body := e.r.Body
	for _, prefix := range rule.PayloadPrefixes {
		if bytes.HasPrefix(body, prefix) || !e.has(seenFunction+len(prefix)) && bytes.HasPrefix(prefix, body) {
			return true
		}
	}
	return false
}
