package modbus

import (
	"fmt"
	"strconv"
	"strings"
)

// Selector names what a policy permits: a function and, where the function carries others, one of
// these (a diagnostic sub-function, an MEI type).
//
// Without that qualifier, Diagnostics and EncapsulatedInterfaceTransport stand for what leaves the
// device as it was: the echo, the counters, device identification. What restarts a port, silences
// a device or clears its counters, CANopen access and what is reserved have to be named.
type Selector struct {
	Function  FunctionCode
	Qualified bool
	Qualifier uint16 // when Qualified: sub-function of 8, MEI type of 43
}

// Excludes tells whether the request is certainly none that s names. It is false for a prefix that
// may still become one; of a complete request, not excluded is named.
func (s Selector) Excludes(r *Request) bool {
	if r.Seen <= offsetFunction {
		return false
	}
	if r.Function != s.Function {
		return true
	}
	switch {
	case r.Function == Diagnostics && len(r.Body) >= 2:
		return s.excludesQualifier(r.SubFunction, readOnlySubFunction(r.SubFunction))
	case r.Function == EncapsulatedInterfaceTransport && len(r.Body) >= 1:
		return s.excludesQualifier(uint16(r.MEIType), r.MEIType == MEIReadDeviceIdentification)
	}
	return false
}

func (s Selector) excludesQualifier(got uint16, readOnly bool) bool {
	if s.Qualified {
		return got != s.Qualifier
	}
	return !readOnly
}

// String returns the selector as ParseFunction reads it.
func (s Selector) String() string {
	name := s.Function.String()
	if !s.Function.Public() {
		name = strconv.Itoa(int(s.Function))
	}
	if !s.Qualified {
		return name
	}
	if s.Function == Diagnostics && publicSubFunction(s.Qualifier) {
		return name + "/" + subFunctionNames[s.Qualifier]
	}
	if s.Function == EncapsulatedInterfaceTransport {
		if special := operation(s.Function, uint8(s.Qualifier), true); special != name {
			return special
		}
	}
	return name + "/" + strconv.Itoa(int(s.Qualifier))
}

// ParseFunction reads one function: a name (write_single_register), a number in 1..127 (6, 0x06),
// or either with a qualifier behind a slash (diagnostics/return_query_data, 8/0, 43/14). The names
// read_device_identification and canopen_general_reference stand for 43/14 and 43/13.
func ParseFunction(text string) (Selector, error) {
	head, tail, qualified := strings.Cut(text, "/")
	if !qualified {
		switch text {
		case "read_device_identification":
			return qualifiedSelector(EncapsulatedInterfaceTransport, uint16(MEIReadDeviceIdentification)), nil
		case "canopen_general_reference":
			return qualifiedSelector(EncapsulatedInterfaceTransport, uint16(MEICANopenGeneralReference)), nil
		}
	}
	function, err := parseFunctionCode(head)
	if err != nil || !qualified {
		return Selector{Function: function}, err
	}
	switch function {
	case Diagnostics:
		return parseSubFunction(tail)
	case EncapsulatedInterfaceTransport:
		mei, err := parseNumber(tail, 8)
		if err != nil {
			return Selector{}, fmt.Errorf("read MEI type %q: want a number in 0..255", tail)
		}
		return qualifiedSelector(function, uint16(mei)), nil
	}
	return Selector{}, fmt.Errorf("read function %q: %s has no sub-functions", text, function)
}

func qualifiedSelector(f FunctionCode, qualifier uint16) Selector {
	return Selector{Function: f, Qualified: true, Qualifier: qualifier}
}

// parseFunctionCode reads a function's name or number.
func parseFunctionCode(text string) (FunctionCode, error) {
	if number, err := parseNumber(text, 8); err == nil {
		if number < 1 || number >= exceptionBit {
			return 0, fmt.Errorf("read function %q: numbers are in 1..127", text)
		}
		return FunctionCode(number), nil
	}
	for code, name := range functionNames {
		if name != "" && name == text {
			return FunctionCode(code), nil
		}
	}
	return 0, fmt.Errorf("read function %q: neither a Modbus function's name nor a number in 1..127", text)
}

// parseSubFunction reads a diagnostic sub-function's name or number.
func parseSubFunction(text string) (Selector, error) {
	if number, err := parseNumber(text, 16); err == nil {
		return qualifiedSelector(Diagnostics, uint16(number)), nil
	}
	for sub, name := range subFunctionNames {
		if name != "" && name == text {
			return qualifiedSelector(Diagnostics, uint16(sub)), nil
		}
	}
	return Selector{}, fmt.Errorf("read sub-function %q: neither a diagnostic sub-function's name nor a number in 0..65535", text)
}

// parseNumber reads decimal, or hexadecimal after 0x; no octal, which nobody means.
func parseNumber(text string, bits int) (uint64, error) {
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		return strconv.ParseUint(digits, 16, bits)
	}
	return strconv.ParseUint(text, 10, bits)
}

// ParseFunctions reads a group's name, or what ParseFunction reads. The groups are
//
//   - read: what reads and changes nothing: functions 1-4, 7, 11, 12, 17, 20, 24 and 43/14;
//   - write: functions 5, 6, 15, 16, 21, 22 and 23 (which reads as well);
//   - diagnostics: functions 7, 8 (see Selector), 11, 12, 17 and 43/14.
//
// "diagnostics" is the group, which contains the function of that name.
func ParseFunctions(text string) ([]Selector, error) {
	switch text {
	case "read":
		return selectors(ReadCoils, ReadDiscreteInputs, ReadHoldingRegisters, ReadInputRegisters,
			ReadExceptionStatus, GetCommEventCounter, GetCommEventLog, ReportServerID,
			ReadFileRecord, ReadFIFOQueue, EncapsulatedInterfaceTransport), nil
	case "write":
		return selectors(WriteSingleCoil, WriteSingleRegister, WriteMultipleCoils,
			WriteMultipleRegisters, WriteFileRecord, MaskWriteRegister,
			ReadWriteMultipleRegisters), nil
	case "diagnostics":
		return selectors(ReadExceptionStatus, Diagnostics, GetCommEventCounter, GetCommEventLog,
			ReportServerID, EncapsulatedInterfaceTransport), nil
	}
	one, err := ParseFunction(text)
	if err != nil {
		return nil, err
	}
	return []Selector{one}, nil
}

// selectors makes a group's selectors; function 43 is device identification in every group.
func selectors(codes ...FunctionCode) []Selector {
	list := make([]Selector, len(codes))
	for i, code := range codes {
		list[i] = Selector{Function: code}
		if code == EncapsulatedInterfaceTransport {
			list[i] = qualifiedSelector(code, uint16(MEIReadDeviceIdentification))
		}
	}
	return list
}
