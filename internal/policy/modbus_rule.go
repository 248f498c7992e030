package policy

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/penstock-ot/penstock/dissectors/modbus"
	"go.yaml.in/yaml/v3"
)

// ModbusRule permits Modbus requests. What it says of a request holds together: function, unit,
// and then the selectors that the function has. A selector that the policy leaves out is filled
// in so that it means any, but for what changes how a device runs (see defaultSubFunctions and
// defaultMEITypes).
type ModbusRule struct {
	// Functions holds those that the rule can permit: a function of a group that lacks what
	// another selector asks for (a file record has no address) is not among them.
	Functions Set256
	Units     Set256

	Addresses Spans // of coils, inputs and registers, from 0 as on the wire; nil is any
	Values    Spans // each register written; a coil is 0 or 1; nil is any

	SubFunctions Spans  // of function 8
	MEITypes     Set256 // of function 43
	Files        []FileSpan

	// MaxQuantity is how many coils or registers one request may name; 0 is any number.
	MaxQuantity uint16

	// PayloadPrefixes are what the body of a function without a public definition begins with;
	// nil is anything.
	PayloadPrefixes [][]byte

	Rate Rate
}

// FileSpan is a range of records of one file (functions 20 and 21).
type FileSpan struct {
	File    uint16 // 1 to 65535
	Records Span   // 0 to 9999
}

// maxFileRecord is the last record of a file (AP 6.14).
const maxFileRecord = 9999

// functionItem is what an element of functions stands for.
type functionItem struct {
	text  string
	at    pos
	codes []modbus.FunctionCode
}

// modbusGroups are the groups of functions. A function that writes is in write even if it reads
// too. Function 43 is in diagnostics with its MEI type 14 only, see defaultMEITypes.
func modbusGroups() []word[[]modbus.FunctionCode] {
	return []word[[]modbus.FunctionCode]{
		{"read", []modbus.FunctionCode{modbus.ReadCoils, modbus.ReadDiscreteInputs, modbus.ReadHoldingRegisters,
			modbus.ReadInputRegisters, modbus.ReadFileRecord, modbus.ReadFIFOQueue}},
		{"write", []modbus.FunctionCode{modbus.WriteSingleCoil, modbus.WriteSingleRegister, modbus.WriteMultipleCoils,
			modbus.WriteMultipleRegisters, modbus.WriteFileRecord, modbus.MaskWriteRegister, modbus.ReadWriteMultipleRegisters}},
		{"diagnostics", []modbus.FunctionCode{modbus.ReadExceptionStatus, modbus.Diagnostics, modbus.GetCommEventCounter,
			modbus.GetCommEventLog, modbus.ReportServerID, modbus.EncapsulatedInterfaceTransport}},
	}
}

// defaultSubFunctions are the diagnostics that a rule without sub_functions permits: echo, the
// diagnostic register and the counters. To restart a device's port, to change its delimiter and
// to silence it (force listen only) change what it does, and to clear its counters takes evidence
// away: they are named or denied, and so is what the specification reserves.
func defaultSubFunctions() Spans { return Spans{{0, 0}, {2, 2}, {11, 18}} }

// defaultMEITypes is read device identification. Type 13 carries CANopen, which writes too.
func defaultMEITypes() Set256 {
	var s Set256
	s.Add(modbus.MEIReadDeviceIdentification)
	return s
}

func (d *decoder) modbusRule(n *yaml.Node) ModbusRule {
	rule := ModbusRule{Units: everything()}
	f, ok := d.ruleFields(n, ProtocolModbus)
	if !ok {
		return rule
	}
	f.require("functions")
	if f.get("units") != nil {
		rule.Units = d.set256(f.get("units"), "units")
	}
	rule.Addresses = d.spans(f.get("addresses"), "addresses", 0, 65535)
	rule.Values = d.spans(f.get("values"), "values", 0, 65535)
	rule.SubFunctions = defaultSubFunctions()
	if f.get("sub_functions") != nil {
		rule.SubFunctions = d.subFunctions(f.get("sub_functions"))
	}
	rule.MEITypes = defaultMEITypes()
	if f.get("mei_types") != nil {
		rule.MEITypes = d.meiTypes(f.get("mei_types"))
	}
	rule.Files = d.files(f.get("files"))
	if most, ok := f.number("max_quantity", 1, 2000); ok {
		rule.MaxQuantity = uint16(most)
	}
	rule.PayloadPrefixes = d.payloadPrefixes(f.get("payload_prefix"))
	rule.Rate = f.rate()
	d.functions(f, &rule)
	return rule
}

// functions reads the key, and keeps the functions that can satisfy the rule's other selectors. An
// element of which none can would be a promise that the rule does not keep.
func (d *decoder) functions(f *fields, rule *ModbusRule) {
	for _, item := range d.functionItems(f.get("functions")) {
		lacking := ""
		able := false
		for _, code := range item.codes {
			if lacks := rule.lacks(f, code); lacks != "" {
				lacking = lacks
				continue
			}
			rule.Functions.Add(uint8(code))
			able = true
		}
		if !able {
			d.errorf(item.at, "%s has no %s, so this rule would never permit it: give it a rule without them", item.text, lacking)
		}
	}
	if f.has("sub_functions") && !rule.Functions.Has(uint8(modbus.Diagnostics)) {
		d.errorf(f.at("sub_functions"), "sub_functions select messages of diagnostics, which functions does not list: add it, or remove them")
	}
	if f.has("mei_types") && !rule.Functions.Has(uint8(modbus.EncapsulatedInterfaceTransport)) {
		d.errorf(f.at("mei_types"), "mei_types select messages of encapsulated_interface_transport, which functions does not list: add it, or remove them")
	}
}

// lacks names the first of the rule's selectors that the function's requests do not have.
func (r *ModbusRule) lacks(f *fields, code modbus.FunctionCode) string {
	file := code == modbus.ReadFileRecord || code == modbus.WriteFileRecord
	switch {
	case f.has("addresses") && !hasAddress(code):
		return "addresses"
	case f.has("values") && !writesValues(code):
		return "values"
	case f.has("files") && !file:
		return "files"
	case f.has("max_quantity") && (!hasAddress(code) || code == modbus.ReadFIFOQueue):
		return "quantity"
	case f.has("payload_prefix") && code.Public():
		return "payload_prefix (its fields have selectors of their own)"
	case r.Values != nil && isCoilWrite(code) && !r.Values.Contains(0) && !r.Values.Contains(1):
		return "values but 0 and 1"
	}
	return ""
}

func hasAddress(code modbus.FunctionCode) bool {
	switch code {
	case modbus.ReadCoils, modbus.ReadDiscreteInputs, modbus.ReadHoldingRegisters, modbus.ReadInputRegisters,
		modbus.WriteSingleCoil, modbus.WriteSingleRegister, modbus.WriteMultipleCoils, modbus.WriteMultipleRegisters,
		modbus.MaskWriteRegister, modbus.ReadWriteMultipleRegisters, modbus.ReadFIFOQueue:
		return true
	}
	return false
}

func isCoilWrite(code modbus.FunctionCode) bool {
	return code == modbus.WriteSingleCoil || code == modbus.WriteMultipleCoils
}

func writesValues(code modbus.FunctionCode) bool {
	switch code {
	case modbus.WriteSingleRegister, modbus.WriteMultipleRegisters, modbus.WriteFileRecord,
		modbus.MaskWriteRegister, modbus.ReadWriteMultipleRegisters:
		return true
	}
	return isCoilWrite(code)
}

func (d *decoder) functionItems(n *yaml.Node) []functionItem {
	var items []functionItem
	d.list(n, "functions", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of functions")
		if !ok {
			return
		}
		codes, why := d.modbusFunction(text)
		if why != "" {
			d.errorAt(element, "functions cannot hold %q%s", text, why)
			return
		}
		items = append(items, functionItem{text, position(element), codes})
	})
	return items
}

// modbusFunction reads a group, a function's name or its number.
func (d *decoder) modbusFunction(text string) ([]modbus.FunctionCode, string) {
	groups := modbusGroups()
	names := wordNames(groups)
	for _, g := range groups {
		if g.name == text {
			return g.value, ""
		}
	}
	if v, err := parseNumber(text); err == nil {
		if v < 1 || v > 127 {
			return nil, ": a request's function is 1 to 127, and 128 up are exceptions"
		}
		return []modbus.FunctionCode{modbus.FunctionCode(v)}, ""
	}
	for code := modbus.FunctionCode(1); code < 128; code++ {
		if !code.Public() {
			continue
		}
		if code.String() == text {
			return []modbus.FunctionCode{code}, ""
		}
		names = append(names, code.String())
	}
	return nil, d.suggest(text, names, "Modbus has no such function: write its name, its number, or read, write or diagnostics")
}

// subFunctions reads names, numbers and ranges.
func (d *decoder) subFunctions(n *yaml.Node) Spans {
	var out []Span
	d.list(n, "sub_functions", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of sub_functions")
		if !ok {
			return
		}
		span, why := d.subFunction(text)
		if why != "" {
			d.errorAt(element, "sub_functions cannot hold %q%s", text, why)
			return
		}
		out = append(out, span)
	})
	return newSpans(out)
}

func (d *decoder) subFunction(text string) (Span, string) {
	var names []string
	for code := range uint16(modbus.ClearOverrunCounterAndFlag + 1) {
		name := modbus.SubFunctionName(code)
		if name == text {
			return Span{uint32(code), uint32(code)}, ""
		}
		if !strings.HasPrefix(name, "unknown") {
			names = append(names, name)
		}
	}
	span, err := parseSpan(text, 0, 65535)
	if err == nil {
		return span, ""
	}
	return Span{}, d.suggest(text, names, err.Error())
}

func (d *decoder) meiTypes(n *yaml.Node) Set256 {
	words := []word[uint8]{
		{"canopen_general_reference", modbus.MEICANopenGeneralReference},
		{"read_device_identification", modbus.MEIReadDeviceIdentification},
	}
	var out Set256
	d.list(n, "mei_types", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of mei_types")
		if !ok {
			return
		}
		for _, w := range words {
			if w.name == text {
				out.Add(w.value)
				return
			}
		}
		v, err := parseNumber(text)
		if err != nil || v > 255 {
			d.errorAt(element, "mei_types cannot hold %q%s", text, d.suggest(text, wordNames(words), "write a number from 0 to 255"))
			return
		}
		out.Add(uint8(v))
	})
	return out
}

// files reads "4" or "4:0-99": a file, and which of its records.
func (d *decoder) files(n *yaml.Node) []FileSpan {
	var out []FileSpan
	d.list(n, "files", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of files")
		if !ok {
			return
		}
		span, err := parseFileSpan(text)
		if err != nil {
			d.errorAt(element, "files cannot hold %q: %v", text, err)
			return
		}
		out = append(out, span)
	})
	return out
}

func parseFileSpan(text string) (FileSpan, error) {
	file, records, some := strings.Cut(text, ":")
	number, err := parseNumber(file)
	if err != nil || number < 1 || number > 65535 {
		return FileSpan{}, fmt.Errorf("write a file from 1 to 65535, and records if not all are meant, such as 4:0-99")
	}
	span := Span{0, maxFileRecord}
	if some {
		if span, err = parseSpan(records, 0, maxFileRecord); err != nil {
			return FileSpan{}, fmt.Errorf("its records: %w", err)
		}
	}
	return FileSpan{uint16(number), span}, nil
}

// maxPayloadPrefix is the longest body: a PDU without its function code (AP 4.1).
const maxPayloadPrefix = 252

func (d *decoder) payloadPrefixes(n *yaml.Node) [][]byte {
	var out [][]byte
	d.list(n, "payload_prefix", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of payload_prefix")
		if !ok {
			return
		}
		prefix, err := hex.DecodeString(strings.TrimPrefix(text, "0x"))
		if err != nil || len(prefix) == 0 || len(prefix) > maxPayloadPrefix {
			d.errorAt(element, "payload_prefix cannot hold %q: write 1 to %d bytes in hexadecimal, such as \"0010\"", text, maxPayloadPrefix)
			return
		}
		out = append(out, prefix)
	})
	return out
}
