package policy

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/dissectors/modbus"
	"github.com/penstock-ot/penstock/internal/verdict"
	"pgregory.net/rapid"
)

// rulesPlan compiles base with the rules given, one a line; its Modbus conduit is number 1.
func rulesPlan(t testing.TB, rules ...string) *Plan {
	t.Helper()
	text := "    rules:\n"
	for _, r := range rules {
		text += "      - {" + r + "}\n"
	}
	return mustCompile(t, edit(t, base, "    rules:\n      - functions: [read]\n        units: [1]\n", text))
}

// wire puts a body, in hexadecimal, behind a header for the unit.
func wire(unit byte, body string) []byte {
	raw, err := hex.DecodeString(strings.ReplaceAll(body, " ", ""))
	if err != nil {
		panic(err)
	}
	b := []byte{0, 7, 0, 0, 0, byte(len(raw) + 1), unit}
	return append(b, raw...)
}

func request(t testing.TB, message []byte) *modbus.Request {
	t.Helper()
	var r modbus.Request
	if n, err := modbus.ParseRequest(message, &r); err != nil || n != len(message) {
		t.Fatalf("parse %x: %d, %v", message, n, err)
	}
	return &r
}

type evalRow struct {
	name  string
	rules []string
	unit  byte
	body  string // function code first
	want  verdict.Reason
}

func evalRows() []evalRow {
	const (
		ok       = verdict.ReasonPermitted
		function = verdict.ReasonFunctionNotPermitted
		unit     = verdict.ReasonUnitNotPermitted
		address  = verdict.ReasonAddressNotPermitted
		value    = verdict.ReasonValueNotPermitted
	)
	example := []string{"functions: [read], units: [1]",
		"functions: [write_single_register, 16], units: [1], addresses: [40-49, 60], values: [0-1500], rate: 10/s"}
	both := []string{"functions: [read, write]"}
	return []evalRow{
		{"read holding registers", example, 1, "03 0000 007d", ok},
		{"read coils", example, 1, "01 0000 0001", ok},
		{"read from another unit", example, 2, "03 0000 0001", unit},
		{"write to another unit", example, 2, "06 0028 0001", unit},
		{"write one", example, 1, "06 0028 05dc", ok},
		{"write one, value over", example, 1, "06 0028 05dd", value},
		{"write one, address under", example, 1, "06 0027 0001", address},
		{"write one, address over", example, 1, "06 0032 0001", address},
		{"write one, single address", example, 1, "06 003c 0001", ok},
		{"write several", example, 1, "10 0028 000a 14 0000 0001 0002 0003 0004 0005 0006 0007 0008 05dc", ok},
		{"write several, last value over", example, 1, "10 0028 0002 04 0001 05dd", value},
		{"write several, one address over", example, 1, "10 0031 0002 04 0001 0001", address},
		{"write several across the gap", example, 1, "10 0028 0015 2a" + strings.Repeat("0001", 21), address},
		{"write a coil", example, 1, "05 0028 ff00", function},
		{"mask write", example, 1, "16 0028 0000 0001", function},
		{"read and write", example, 1, "17 0028 0001 0028 0001 02 0001", function},
		{"file record", example, 1, "14 07 06 0004 0001 0002", ok},
		{"write file record", example, 1, "15 09 06 0004 0001 0001 0007", function},
		{"diagnostics", example, 1, "08 0000 0000", function},
		{"vendor programming", example, 1, "5a 00 10", function},
		{"the highest address", []string{"functions: [read], addresses: [65535]"}, 1, "03 ffff 0001", ok},
		{"every address", []string{"functions: [read], addresses: [0-65535]"}, 1, "03 ff83 007d", ok},

		{"two rules cover a read together", []string{"functions: [3], addresses: [0-9]", "functions: [read], addresses: [10-19]"}, 1, "03 0005 000a", ok},
		{"two rules leave a gap", []string{"functions: [3], addresses: [0-9]", "functions: [3], addresses: [11-19]"}, 1, "03 0005 000a", address},
		{"two rules of two units", []string{"functions: [3], units: [1], addresses: [0-9]", "functions: [3], units: [2], addresses: [10-19]"}, 1, "03 0005 000a", address},
		{"each value by the rule of its address", []string{"functions: [16], addresses: [0], values: [1]", "functions: [16], addresses: [1], values: [2]"}, 1, "10 0000 0002 04 0001 0002", ok},
		{"values exchanged", []string{"functions: [16], addresses: [0], values: [1]", "functions: [16], addresses: [1], values: [2]"}, 1, "10 0000 0002 04 0002 0001", value},
		{"overlapping rules, the wider goes on", []string{"functions: [16], addresses: [0-5], values: [1]", "functions: [16], addresses: [0-9], values: [1-2]"}, 1, "10 0004 0003 06 0001 0001 0002", ok},
		{"a value either rule may permit", []string{"functions: [6], values: [1]", "functions: [6], values: [7]"}, 1, "06 0000 0007", ok},
		{"quantity", []string{"functions: [read], max_quantity: 4"}, 1, "03 0000 0004", ok},
		{"quantity over", []string{"functions: [read], max_quantity: 4"}, 1, "03 0000 0005", address},
		{"quantity is a rule's own", []string{"functions: [read], max_quantity: 4", "functions: [read], addresses: [0-3]"}, 1, "03 0000 0005", address},

		{"coil on", []string{"functions: [5], values: [1]"}, 1, "05 0000 ff00", ok},
		{"coil off", []string{"functions: [5], values: [1]"}, 1, "05 0000 0000", value},
		{"coils", []string{"functions: [15], values: [0]"}, 1, "0f 0000 000a 02 00 00", ok},
		{"coils, the tenth on", []string{"functions: [15], values: [0]"}, 1, "0f 0000 000a 02 00 02", value},
		{"coils, padding on", []string{"functions: [15], values: [0]"}, 1, "0f 0000 000a 02 00 04", ok},
		{"mask that sets all", []string{"functions: [22], values: [5]"}, 1, "16 0000 0000 0005", ok},
		{"mask that sets all, value over", []string{"functions: [22], values: [5]"}, 1, "16 0000 0000 0006", value},
		{"mask that keeps a bit", []string{"functions: [22], values: [0-65535]"}, 1, "16 0000 0001 0005", value},
		{"mask without values", []string{"functions: [22], addresses: [0]"}, 1, "16 0000 ffff 0005", ok},
		{"FIFO", []string{"functions: [24], addresses: [4]"}, 1, "18 0004", ok},
		{"FIFO elsewhere", []string{"functions: [24], addresses: [4]"}, 1, "18 0005", address},

		{"read and write by one rule", []string{"functions: [23], addresses: [0-9], values: [1]"}, 1, "17 0000 000a 0009 0001 02 0001", ok},
		{"read and write, value", []string{"functions: [23], addresses: [0-9], values: [1]"}, 1, "17 0000 000a 0009 0001 02 0002", value},
		{"read and write, reads elsewhere", []string{"functions: [23], addresses: [0-9]"}, 1, "17 000a 0001 0009 0001 02 0002", address},
		{"read and write, reads by function 3", []string{"functions: [23], addresses: [0-9]", "functions: [3], addresses: [10]"}, 1, "17 000a 0001 0009 0001 02 0002", ok},
		{"read and write, writes by function 16", []string{"functions: [23], addresses: [0-9]", "functions: [16], addresses: [10]"}, 1, "17 0000 0001 000a 0001 02 0002", address},
		{"read and write, only reads permitted", []string{"functions: [3]"}, 1, "17 0000 0001 000a 0001 02 0002", function},

		{"files", []string{"functions: [20], files: [4, \"5:0-9\"]"}, 1, "14 0e 06 0004 270f 0001 06 0005 0009 0001", ok},
		{"files, record over", []string{"functions: [20], files: [4, \"5:0-9\"]"}, 1, "14 07 06 0005 0009 0002", address},
		{"files, second of two", []string{"functions: [20], files: [4]"}, 1, "14 0e 06 0004 0000 0001 06 0005 0000 0001", address},
		{"files joined", []string{"functions: [20], files: [\"4:0-4\", \"4:5-9\"]"}, 1, "14 07 06 0004 0000 000a", ok},
		{"file write", []string{"functions: [21], files: [4], values: [7]"}, 1, "15 09 06 0004 0001 0001 0007", ok},
		{"file write, value", []string{"functions: [21], files: [4], values: [7]"}, 1, "15 09 06 0004 0001 0001 0008", value},
		{"file under addresses", []string{"functions: [read], addresses: [0-9]"}, 1, "14 07 06 0004 0001 0002", function},

		{"echo", []string{"functions: [diagnostics]"}, 1, "08 0000 1234", ok},
		{"counter", []string{"functions: [diagnostics]"}, 1, "08 000e 0000", ok},
		{"restart", []string{"functions: [diagnostics]"}, 1, "08 0001 0000", function},
		{"restart, named", []string{"functions: [8], sub_functions: [restart_communications_option]"}, 1, "08 0001 0000", ok},
		{"echo, where only restart is named", []string{"functions: [8], sub_functions: [1]"}, 1, "08 0000 0000", function},
		{"force listen only", []string{"functions: [8]"}, 1, "08 0004 0000", function},
		{"reserved sub-function", []string{"functions: [8]"}, 1, "08 0100 0000", function},
		{"device identification", []string{"functions: [diagnostics]"}, 1, "2b 0e 01 00", ok},
		{"CANopen", []string{"functions: [43]"}, 1, "2b 0d 01 02", function},
		{"CANopen, named", []string{"functions: [43], mei_types: [canopen_general_reference]"}, 1, "2b 0d 01 02", ok},
		{"device identification on another unit", []string{"functions: [43], units: [9]"}, 1, "2b 0e 01 00", unit},
		{"vendor function", []string{"functions: [90]"}, 1, "5a 00 10", ok},
		{"vendor function, payload", []string{"functions: [90], payload_prefix: [\"0010\"]"}, 1, "5a 00 10 ff", ok},
		{"vendor function, other payload", []string{"functions: [90], payload_prefix: [\"0010\"]"}, 1, "5a 00 11 ff", function},
		{"vendor function, payload too short", []string{"functions: [90], payload_prefix: [\"0010\"]"}, 1, "5a 00", function},
		{"everything is not vendor functions", both, 1, "5a 00 10", function},
		{"unit 0", []string{"functions: [6], units: [1-255]"}, 0, "06 0000 0001", unit},
	}
}

func TestEvalModbus(t *testing.T) {
	for _, row := range evalRows() {
		t.Run(row.name, func(t *testing.T) {
			plan := rulesPlan(t, row.rules...)
			got := plan.EvalModbus(1, request(t, wire(row.unit, row.body)))
			if got.Reason != row.want || got.Allows() != (row.want == verdict.ReasonPermitted) {
				t.Errorf("got %s %s, want %s", got.Action, got.Reason, row.want)
			}
		})
	}
}

// TestEvalModbusPrefixes holds that a prefix is denied only if no continuation could be permitted,
// and that what is denied whole is never denied for less than its last byte: each prefix of a
// permitted request is permitted, and a denial stays.
func TestEvalModbusPrefixes(t *testing.T) {
	for _, row := range evalRows() {
		t.Run(row.name, func(t *testing.T) {
			plan := rulesPlan(t, row.rules...)
			message := wire(row.unit, row.body)
			denied := false
			for n := 1; n <= len(message); n++ {
				var r modbus.Request
				modbus.ParseRequest(message[:n], &r)
				v := plan.EvalModbus(1, &r)
				if denied && v.Allows() {
					t.Fatalf("%d bytes are permitted after fewer were denied", n)
				}
				denied = !v.Allows()
				if denied && row.want == verdict.ReasonPermitted {
					t.Fatalf("%d bytes of a permitted request: %s", n, v.Reason)
				}
			}
		})
	}
}

// TestEvalModbusEarly says with how many bytes a denial falls.
func TestEvalModbusEarly(t *testing.T) {
	rules := []string{"functions: [3, 16, 8], units: [1], addresses: [0-9]", "functions: [16, 23], addresses: [20], values: [5]", "functions: [90], payload_prefix: [\"0010\"]"}
	rules[0] = "functions: [3, 16], units: [1], addresses: [0-9]"
	rows := []struct {
		name, body string
		unit       byte
		want       int
	}{
		{"function", "05 0000 ff00", 1, 8},
		{"unit", "03 0000 0001", 2, 8},
		{"address", "03 000a 0001", 1, 10},
		{"quantity", "03 0009 0002", 1, 12},
		{"value", "10 0014 0001 02 0006", 1, 15},
		{"written address", "17 0014 0001 0015 0001 02 0005", 1, 14},
		{"payload", "5a 01 10 00", 1, 9},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			plan := rulesPlan(t, rules...)
			message := wire(row.unit, row.body)
			for n := 1; n <= len(message); n++ {
				var r modbus.Request
				modbus.ParseRequest(message[:n], &r)
				if !plan.EvalModbus(1, &r).Allows() {
					if n != row.want {
						t.Errorf("denied with %d bytes, want %d", n, row.want)
					}
					return
				}
			}
			t.Error("never denied")
		})
	}
}

// naive judges writes and reads register by register, in the words of EvalModbus's comment.
func naive(rules []ModbusRule, r *modbus.Request) bool {
	permits := func(rule *ModbusRule, f modbus.FunctionCode, at, quantity uint16, value int) bool {
		return rule.Functions.Has(uint8(f)) && rule.Units.Has(r.Unit) &&
			(rule.Addresses == nil || rule.Addresses.Contains(uint32(at))) &&
			(rule.MaxQuantity == 0 || quantity <= rule.MaxQuantity) &&
			(value < 0 || rule.Values == nil || rule.Values.Contains(uint32(value)))
	}
	anyOf := func(fs []modbus.FunctionCode, at, quantity uint16, value int) bool {
		for i := range rules {
			for _, f := range fs {
				if permits(&rules[i], f, at, quantity, value) {
					return true
				}
			}
		}
		return false
	}
	start, count := r.Address, r.Quantity
	if r.Function == modbus.WriteSingleRegister {
		count = 1
	}
	if r.Function == modbus.ReadWriteMultipleRegisters {
		for i := range r.Quantity {
			if !anyOf([]modbus.FunctionCode{r.Function, modbus.ReadHoldingRegisters}, r.Address+i, r.Quantity, -1) {
				return false
			}
		}
		start, count = r.WriteAddress, r.WriteQuantity
	}
	for i := range count {
		value := -1
		if writesValues(r.Function) {
			value = int(binary.BigEndian.Uint16(r.Values[2*i:]))
		}
		if !anyOf([]modbus.FunctionCode{r.Function}, start+i, count, value) {
			return false
		}
	}
	return true
}

func TestEvalModbusAgreesWithRegisterByRegister(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := make([]ModbusRule, rapid.IntRange(1, 5).Draw(t, "rules"))
		for i := range rules {
			rules[i] = drawRule(t)
		}
		plan := &Plan{Conduits: []Conduit{{}, {Protocol: ProtocolModbus, Modbus: rules}}}
		message := drawMessage(t)
		var r modbus.Request
		if _, err := modbus.ParseRequest(message, &r); err != nil {
			t.Fatalf("%x: %v", message, err)
		}
		if got, want := plan.EvalModbus(1, &r).Allows(), naive(rules, &r); got != want {
			t.Fatalf("%x under %+v: got %v, want %v", message, rules, got, want)
		}
	})
}

func drawRule(t *rapid.T) ModbusRule {
	rule := ModbusRule{Units: everything()}
	for _, f := range []modbus.FunctionCode{3, 6, 16, 23} {
		if rapid.Bool().Draw(t, "function") {
			rule.Functions.Add(uint8(f))
		}
	}
	spans := func(most uint32) Spans {
		var out []Span
		for range rapid.IntRange(0, 3).Draw(t, "spans") {
			low := rapid.Uint32Range(0, most).Draw(t, "low")
			out = append(out, Span{low, min(most, low+rapid.Uint32Range(0, 6).Draw(t, "more"))})
		}
		return newSpans(out)
	}
	rule.Addresses, rule.Values = spans(20), spans(6)
	rule.MaxQuantity = rapid.Uint16Range(0, 8).Draw(t, "most")
	return rule
}

func drawMessage(t *rapid.T) []byte {
	start, count := rapid.IntRange(0, 16).Draw(t, "start"), rapid.IntRange(1, 8).Draw(t, "count")
	values := ""
	for range count {
		values += fmt.Sprintf("%04x", rapid.IntRange(0, 6).Draw(t, "value"))
	}
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return wire(1, fmt.Sprintf("03%04x%04x", start, count))
	case 1:
		return wire(1, fmt.Sprintf("06%04x%s", start, values[:4]))
	case 2:
		return wire(1, fmt.Sprintf("10%04x%04x%02x%s", start, count, 2*count, values))
	}
	read, most := rapid.IntRange(0, 16).Draw(t, "read"), rapid.IntRange(1, 8).Draw(t, "reads")
	return wire(1, fmt.Sprintf("17%04x%04x%04x%04x%02x%s", read, most, start, count, 2*count, values))
}

func TestEvalModbusOfOtherConduits(t *testing.T) {
	plan := rulesPlan(t, "functions: [read]")
	r := request(t, wire(1, "03 0000 0001"))
	for _, conduit := range []uint32{0, 2, 3, 1 << 31} {
		if got := plan.EvalModbus(conduit, r); got != verdict.Denied(verdict.ReasonNoConduit) {
			t.Errorf("conduit %d: %+v", conduit, got)
		}
	}
	if plan.EvalModbus(1, &modbus.Request{}).Allows() {
		t.Error("a request that nobody parsed is permitted")
	}
}

func TestRates(t *testing.T) {
	start := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	write := wire(1, "06 0000 0001")
	rows := []struct {
		name  string
		rules []string
		at    []time.Duration
		want  string // one letter a request: p permitted, r rate, v value
	}{
		{"burst of a second", []string{"functions: [6], rate: 3/s"}, []time.Duration{0, 0, 0, 0}, "pppr"},
		{"fills", []string{"functions: [6], rate: 2/s"}, []time.Duration{0, 0, 0, 499 * time.Millisecond, 500 * time.Millisecond, 500 * time.Millisecond}, "pprrpr"},
		{"never more than a second's worth", []string{"functions: [6], rate: 2/s"}, []time.Duration{0, time.Hour, time.Hour, time.Hour}, "pppr"},
		{"a minute", []string{"functions: [6], rate: 2/m"}, []time.Duration{0, 0, 29 * time.Second, 30 * time.Second}, "prrp"},
		{"a clock that runs backwards", []string{"functions: [6], rate: 1/s"}, []time.Duration{time.Second, 0, time.Second, 2 * time.Second}, "prrp"},
		{"a rule without a rate goes first", []string{"functions: [6], rate: 1/s", "functions: [write]"}, []time.Duration{0, 0, 0}, "ppp"},
		{"two limited rules", []string{"functions: [6], rate: 1/s", "functions: [write], rate: 1/s"}, []time.Duration{0, 0, 0}, "ppr"},
		{"what is denied costs nothing", []string{"functions: [6], rate: 1/s, values: [9]"}, []time.Duration{0, 0}, "vv"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			plan := rulesPlan(t, row.rules...)
			rates := plan.NewRates()
			got := ""
			for _, at := range row.at {
				v := plan.EvalModbusRate(1, request(t, write), rates, start.Add(at))
				got += map[verdict.Reason]string{verdict.ReasonPermitted: "p", verdict.ReasonRateExceeded: "r", verdict.ReasonValueNotPermitted: "v"}[v.Reason]
			}
			if got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestRatesOfARequestUnderSeveralRules(t *testing.T) {
	plan := rulesPlan(t, "functions: [16], addresses: [0], rate: 2/s", "functions: [16], addresses: [1], rate: 1/s")
	rates := plan.NewRates()
	now := time.Unix(0, 0)
	eval := func(body string) verdict.Reason {
		return plan.EvalModbusRate(1, request(t, wire(1, body)), rates, now).Reason
	}
	for i, want := range []verdict.Reason{verdict.ReasonPermitted, verdict.ReasonRateExceeded} {
		if got := eval("10 0000 0002 04 0001 0001"); got != want {
			t.Errorf("both, time %d: %s", i+1, got)
		}
	}
	for i, want := range []verdict.Reason{verdict.ReasonPermitted, verdict.ReasonRateExceeded} {
		if got := eval("10 0000 0001 02 0001"); got != want {
			t.Errorf("the first alone, time %d: %s", i+1, got)
		}
	}
	if got := plan.EvalModbusRate(1, request(t, wire(1, "10 0000 0001 02 0001")), nil, now).Reason; got != verdict.ReasonRateExceeded {
		t.Errorf("without buckets a limit is lost: %s", got)
	}
}

func TestEvalModbusDoesNotAllocate(t *testing.T) {
	for _, row := range evalRows() {
		plan := rulesPlan(t, row.rules...)
		r, rates, now := request(t, wire(row.unit, row.body)), plan.NewRates(), time.Now()
		if n := testing.AllocsPerRun(10, func() {
			plan.EvalModbus(1, r)
			plan.EvalModbusRate(1, r, rates, now)
		}); n != 0 {
			t.Errorf("%s: %v allocations", row.name, n)
		}
	}
}

func BenchmarkEvalModbus(b *testing.B) {
	rules := []string{"functions: [read], units: [1]",
		"functions: [write_single_register, 16], units: [1], addresses: [40-49, 60], values: [0-1500], rate: 10/s"}
	plan := rulesPlan(b, rules...)
	for _, row := range []struct{ name, body string }{
		{"read", "03 0000 007d"},
		{"write", "06 0028 0001"},
		{"write_ten", "10 0028 000a 14 0000 0001 0002 0003 0004 0005 0006 0007 0008 0009"},
		{"denied", "06 0028 ffff"},
	} {
		r := request(b, wire(1, row.body))
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				plan.EvalModbus(1, r)
			}
		})
	}
}
