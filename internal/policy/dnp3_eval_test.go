package policy

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/verdict"
	"pgregory.net/rapid"
)

// dnp3Plan compiles base with the rules given, one a line; its DNP3 conduit is number 1.
func dnp3Plan(t testing.TB, rules ...string) *Plan {
	t.Helper()
	text := "    rules:\n"
	for _, r := range rules {
		text += "      - {" + r + "}\n"
	}
	return mustCompile(t, edit(t, base, "protocol: modbus", "protocol: dnp3", "    rules:\n      - functions: [read]\n        units: [1]\n", text))
}

// dnp3Message reads a request: the function, then objects, in hexadecimal.
func dnp3Message(t testing.TB, body string) *dnp3.Message {
	t.Helper()
	b, err := hex.DecodeString("c1" + strings.ReplaceAll(body, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	var m dnp3.Message
	if err := dnp3.ParseMessage(b, true, false, &m); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return &m
}

// A control block of one byte's worth of code and count, with its times.
const (
	latchOn  = "03 01 64000000 00000000 00"
	latchOff = "04 01 64000000 00000000 00"
	closeIt  = "41 01 e8030000 f4010000 00"
	twice    = "03 02 64000000 00000000 00"
)

func TestEvalDNP3(t *testing.T) {
	const (
		ok       = verdict.ReasonPermitted
		function = verdict.ReasonFunctionNotPermitted
		address  = verdict.ReasonAddressNotPermitted
		object   = verdict.ReasonObjectNotPermitted
		point    = verdict.ReasonPointNotPermitted
		value    = verdict.ReasonValueNotPermitted
	)
	example := []string{
		"functions: [read, confirm, enable_unsolicited], masters: [1], outstations: [10]",
		"functions: [write], masters: [1], outstations: [10], objects: [g50v1, g80v1]",
		"functions: [select, operate], masters: [1], outstations: [10], objects: [g12v1], points: [0-3], control_codes: [latch_on, latch_off]",
	}
	pulses := []string{"functions: [direct_operate], objects: [g12], count: [1], on_time: [0-500], off_time: [0]"}
	analog := []string{"functions: [direct_operate], points: [0-9], values: [-10-10, 50.5, 100-200]"}
	files := []string{`functions: [open_file, close_file, get_file_info, read], files: ["/logs/*.csv", "C:\\x?"]`}
	anything := []string{"functions: [read, write, select, operate, direct_operate, open_file, delete_file, assign_class, enable_unsolicited]"}
	open := func(mode byte, name string) string {
		b := make([]byte, 26, 300)
		binary.LittleEndian.PutUint16(b, 26)
		binary.LittleEndian.PutUint16(b[2:], uint16(len(name)))
		b[20] = mode
		b = append(b, name...)
		return "4603 5b 01" + hex.EncodeToString(binary.LittleEndian.AppendUint16(nil, uint16(len(b)))) + hex.EncodeToString(b)
	}
	for _, row := range []struct {
		name   string
		rules  []string
		master uint16
		body   string
		want   verdict.Reason
	}{
		{"poll", example, 1, "01 3c0206 3c0306 3c0406", ok},
		{"poll of points", example, 1, "01 1e00 00 00 ff", ok},
		{"another master", example, 2, "01 3c0206", address},
		{"restart", example, 1, "0d", function},
		{"confirm", example, 1, "00", ok},
		{"time", example, 1, "02 3201 07 01 010203040506", ok},
		{"restart bit", example, 1, "02 5001 00 07 07 00", ok},
		{"another time", example, 1, "02 3203 07 01 010203040506", object},
		{"select", example, 1, "03 0c01 17 01 03" + latchOn, ok},
		{"two points", example, 1, "03 0c01 17 02 00" + latchOn + "03" + latchOff, ok},
		{"one point beyond", example, 1, "03 0c01 17 02 00" + latchOn + "04" + latchOff, point},
		{"another code", example, 1, "03 0c01 17 01 00" + closeIt, value},
		{"point of two bytes", example, 1, "03 0c01 28 0100 0300" + latchOn, ok},
		{"point of two bytes beyond", example, 1, "03 0c01 28 0100 0301" + latchOn, point},
		{"range", example, 1, "03 0c01 00 02 03" + latchOn + latchOn, ok},
		{"range beyond", example, 1, "03 0c01 00 03 04" + latchOn + latchOn, point},
		{"another object", example, 1, "03 2902 17 01 00 0000 00", object},
		{"direct operate", example, 1, "05 0c01 17 01 00" + latchOn, function},

		{"once, short", pulses, 1, "05 0c01 17 01 09" + latchOn, ok},
		{"twice", pulses, 1, "05 0c01 17 01 09" + twice, value},
		{"too long", pulses, 1, "05 0c01 17 01 09" + closeIt, value},
		{"an analog output under a rule for blocks", []string{"functions: [direct_operate], count: [1]"}, 1, "05 2902 17 01 00 0000 00", object},
		{"pattern", pulses, 1, "05 0c02 07 01" + latchOn + "0c03 00 00 07 ff", ok},
		{"pattern of as many points as are judged", pulses, 1, "05 0c02 07 01" + latchOn + "0c03 01 0000ff01" + strings.Repeat("ff", 64), ok},
		{"pattern of one more", pulses, 1, "05 0c02 07 01" + latchOn + "0c03 01 00000002" + strings.Repeat("ff", 64) + "01", point},
		{"patterns of as many and one more", pulses, 1, "05 0c02 07 01" + latchOn + "0c03 01 0000ff01" + strings.Repeat("ff", 64) + "0c03 00 00 00 01", point},
		{"pattern, twice", pulses, 1, "05 0c02 07 01" + twice + "0c03 00 00 07 ff", value},
		{"pattern within points", []string{"functions: [direct_operate], objects: [g12v2, g12v3], points: [0-3], control_codes: [latch_on]"}, 1,
			"05 0c02 07 01" + latchOn + "0c03 00 00 07 0f", ok},
		{"pattern beyond points", []string{"functions: [direct_operate], objects: [g12v2, g12v3], points: [0-3], control_codes: [latch_on]"}, 1,
			"05 0c02 07 01" + latchOn + "0c03 00 00 07 1f", point},
		{"pattern whose code only another rule permits", []string{
			"functions: [direct_operate], objects: [g12], points: [0-3], control_codes: [latch_on]",
			"functions: [direct_operate], objects: [g12], points: [4], control_codes: [latch_off]"}, 1,
			"05 0c02 07 01" + latchOff + "0c03 00 00 07 01", value},

		{"analog", analog, 1, "05 2902 17 01 00 0a00 00", ok},
		{"analog below 0", analog, 1, "05 2901 17 01 00 f6ffffff 00", ok},
		{"analog too low", analog, 1, "05 2901 17 01 00 f5ffffff 00", value},
		{"analog between", analog, 1, "05 2902 17 01 00 3300 00", value},
		{"analog, real", analog, 1, "05 2903 17 01 00 00004a42 00", ok},
		{"analog, no number", analog, 1, "05 2903 17 01 00 0000c07f 00", value},
		{"analog, infinite", analog, 1, "05 2904 17 01 00 000000000000f07f 00", value},
		{"analog, another point", analog, 1, "05 2902 17 01 0a 0a00 00", point},
		{"a block under a rule for values", analog, 1, "05 0c01 17 01 00" + latchOn, object},

		{"file", files, 1, "19" + open(1, "/logs/a.csv"), ok},
		{"file in a directory below", files, 1, "19" + open(1, "/logs/b/a.csv"), object},
		{"file that climbs", files, 1, "19" + open(1, "/logs/..\\..\\a.csv"), object},
		{"file of another suffix", files, 1, "19" + open(1, "/logs/a.csv.exe"), object},
		{"file with a zero", files, 1, "19" + open(1, "/logs/a\x00.csv"), object},
		{"file to be written", files, 1, "19" + open(2, "/logs/a.csv"), value},
		{"file to be appended to", files, 1, "19" + open(3, "/logs/a.csv"), value},
		{"file for nothing", files, 1, "19" + open(0, "/logs/a.csv"), value},
		{"file's block", files, 1, "01 4605 5b 01 0800 0100000000000000", ok},
		{"poll under a rule for files", files, 1, "01 3c0206", object},
		{"file deleted", files, 1, "1b" + open(0, "/logs/a.csv"), function},

		{"any rule: class", anything, 1, "01 3c0206 1e00 06", ok},
		{"any rule: control", anything, 1, "05 0c01 17 01 09" + closeIt, ok},
		{"any rule: time", anything, 1, "02 3201 07 01 010203040506", ok},
		{"any rule: outputs written", anything, 1, "02 0a01 00 00 00 01", object},
		{"any rule: deadband", anything, 1, "02 2201 17 01 00 0100", object},
		{"any rule: attribute", anything, 1, "02 00f7 00 00 00 01 01 61", object},
		{"any rule: terminal", anything, 1, "02 7001 17 01 00 61", object},
		{"any rule: file's block read", anything, 1, "01 4605 5b 01 0800 0100000000000000", object},
		{"any rule: file's block written", anything, 1, "02 4605 5b 01 0800 0100000000000000", object},
		{"any rule: file", anything, 1, "19" + open(2, "x"), ok},

		{"class 1", []string{"functions: [read], classes: [1, 2]"}, 1, "01 3c0206 3c0306", ok},
		{"class 0", []string{"functions: [read], classes: [1, 2]"}, 1, "01 3c0206 3c0106", object},
		{"points under classes", []string{"functions: [read], classes: [1, 2]"}, 1, "01 1e00 00 00 05", object},
		{"assigned", []string{"functions: [assign_class], classes: [2], objects: [g30], points: [0-5]"}, 1, "16 3c0306 1e00 00 00 05", point},
		{"assigned by two rules", []string{"functions: [assign_class], classes: [2]", "functions: [assign_class], objects: [g30], points: [0-5]"}, 1, "16 3c0306 1e00 00 00 05", ok},

		{"rules add up", []string{"functions: [read], objects: [g30], points: [0-9]", "functions: [read], objects: [g30], points: [10-19]"}, 1, "01 1e00 00 05 0e", ok},
		{"a gap", []string{"functions: [read], objects: [g30], points: [0-9]", "functions: [read], objects: [g30], points: [11-19]"}, 1, "01 1e00 00 05 0e", point},
		{"all points", []string{"functions: [read], objects: [g30], points: [0-9]"}, 1, "01 1e00 06", point},
		{"some points", []string{"functions: [read], objects: [g30], points: [0-9]"}, 1, "01 1e00 07 01", point},
		{"indices", []string{"functions: [read], objects: [g30], points: [0-9]"}, 1, "01 1e00 17 02 00 0a", point},
		{"a range of everything", []string{"functions: [read], objects: [g30], points: [0-65535]"}, 1, "01 1e00 02 00000000 ffffffff", point},
		{"codes by two rules", []string{"functions: [direct_operate], objects: [g12v1], points: [1], control_codes: [latch_on]",
			"functions: [direct_operate], objects: [g12v1], points: [2], control_codes: [latch_off]"}, 1, "05 0c01 17 02 01" + latchOn + "02" + latchOff, ok},
		{"codes exchanged", []string{"functions: [direct_operate], objects: [g12v1], points: [1], control_codes: [latch_on]",
			"functions: [direct_operate], objects: [g12v1], points: [2], control_codes: [latch_off]"}, 1, "05 0c01 17 02 01" + latchOff + "02" + latchOn, value},

		{"undefined", []string{"functions: [0x70]"}, 1, "70 0102", ok},
		{"undefined, under a rule with objects", []string{"functions: [0x70, read], objects: [g1]"}, 1, "70 0102", object},
		{"authenticated", example, 1, "03 7803 07 01 000000000000 0c01 17 01 03" + latchOn + "7809 5b 01 0000", ok},
		{"authenticated, another point", example, 1, "03 7803 07 01 000000000000 0c01 17 01 04" + latchOn + "7809 5b 01 0000", point},
		{"operate that is not bound", example, 1, "04 0c01 17 01 03" + latchOn, ok},
		{"operate that is bound", []string{"functions: [select, operate], select_before_operate: true"}, 1, "04 0c01 17 01 03" + latchOn, function},
	} {
		t.Run(row.name, func(t *testing.T) {
			plan := dnp3Plan(t, row.rules...)
			r := DNP3Request{Master: row.master, Outstation: 10, Message: dnp3Message(t, row.body)}
			if got := plan.EvalDNP3(1, &r); got.Reason != row.want || got.Allows() != (row.want == ok) {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
}

// A denial of a prefix is final: no rule set permits a message whose beginning it denies.
func TestDNP3PrefixesAreNotDeniedWhatIsPermitted(t *testing.T) {
	plan := dnp3Plan(t, "functions: [read, select, operate, direct_operate], masters: [1], outstations: [10], objects: [g12, g30, g60], points: [0-9], control_codes: [latch_on]",
		"functions: [read], objects: [g60, g30]", "functions: [select, operate], objects: [g12v1], points: [20], select_before_operate: true",
		`functions: [open_file], files: ["/a*"]`)
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SampledFrom([]string{"01 3c0206 1e00 00 00 ff", "03 0c01 17 02 00" + latchOn + "09" + latchOn, "05 0c01 00 01 02" + latchOn + latchOff,
			"05 0c02 07 01" + latchOn + "0c03 00 00 0f ffff", "04 0c01 17 01 14" + latchOn, "01 1e00 28 0200 0100 0a00", "0d",
			"03 7803 07 01 000000000000 0c01 17 01 03" + latchOn + "7809 5b 01 0000"}).Draw(t, "body")
		b, _ := hex.DecodeString("c1" + strings.ReplaceAll(body, " ", ""))
		if i := rapid.IntRange(1, len(b)-1).Draw(t, "changed"); rapid.Bool().Draw(t, "change") {
			b[i] = rapid.Byte().Draw(t, "to")
		}
		var m dnp3.Message
		r := DNP3Request{Master: 1, Outstation: 10, Message: &m, Selected: true}
		if dnp3.ParseMessage(b, true, false, &m) != nil || !plan.EvalDNP3(1, &r).Allows() {
			return
		}
		for n := range b {
			if err := dnp3.ParseMessage(b[:n], false, false, &m); err != dnp3.ErrNeedMore {
				t.Fatalf("% x: %v", b[:n], err)
			}
			if v := plan.EvalDNP3(1, &r); !v.Allows() {
				t.Fatalf("% x is permitted, and its first %d bytes are %v", b, n, v.Reason)
			}
		}
	})
}

func TestDNP3StationsAndUnsolicited(t *testing.T) {
	plan := dnp3Plan(t, "functions: [read], masters: [1], outstations: [10]", "functions: [enable_unsolicited], masters: [1], outstations: [11]",
		"functions: [write], masters: [2], outstations: [0xffff]", "functions: [read, unsolicited_response], masters: [3]")
	for _, row := range []struct {
		master, outstation uint16
		link, unsolicited  verdict.Reason
	}{
		{1, 10, verdict.ReasonPermitted, verdict.ReasonAddressNotPermitted},
		{1, 11, verdict.ReasonPermitted, verdict.ReasonPermitted},
		{2, 10, verdict.ReasonAddressNotPermitted, verdict.ReasonAddressNotPermitted},
		{2, 0xffff, verdict.ReasonPermitted, verdict.ReasonAddressNotPermitted},
		{3, 77, verdict.ReasonPermitted, verdict.ReasonPermitted},
		{3, 0xffff, verdict.ReasonAddressNotPermitted, verdict.ReasonAddressNotPermitted},
		{3, 0xfffc, verdict.ReasonAddressNotPermitted, verdict.ReasonAddressNotPermitted},
	} {
		if got := plan.EvalDNP3Link(1, row.master, row.outstation); got.Reason != row.link {
			t.Errorf("%d to %d: %v, want %v", row.master, row.outstation, got.Reason, row.link)
		}
		if got := plan.EvalDNP3Unsolicited(1, row.master, row.outstation); got.Reason != row.unsolicited {
			t.Errorf("unsolicited %d to %d: %v, want %v", row.outstation, row.master, got.Reason, row.unsolicited)
		}
	}
	if got := dnp3Plan(t, "functions: [read]").EvalDNP3Unsolicited(1, 1, 1); got.Reason != verdict.ReasonFunctionNotPermitted {
		t.Errorf("unsolicited where nothing enables it: %v", got)
	}
}

func TestDNP3Rates(t *testing.T) {
	plan := dnp3Plan(t, "functions: [direct_operate], objects: [g12v1], points: [0-3], rate: 2/s", "functions: [read]")
	rates, now := plan.NewRates(), time.Unix(0, 0)
	control := DNP3Request{Message: dnp3Message(t, "05 0c01 17 02 00"+latchOn+"01"+latchOn)}
	for i, want := range []verdict.Reason{verdict.ReasonPermitted, verdict.ReasonPermitted, verdict.ReasonRateExceeded} {
		if got := plan.EvalDNP3Rate(1, &control, rates, now); got.Reason != want {
			t.Errorf("control %d: %v, want %v", i, got.Reason, want)
		}
	}
	other := DNP3Request{Message: dnp3Message(t, "05 0c01 17 01 09"+latchOn)}
	if got := plan.EvalDNP3Rate(1, &other, rates, now); got.Reason != verdict.ReasonPointNotPermitted {
		t.Errorf("another point without a token: %v", got.Reason)
	}
	poll := DNP3Request{Message: dnp3Message(t, "01 3c0206")}
	if got := plan.EvalDNP3Rate(1, &poll, rates, now); !got.Allows() {
		t.Errorf("a poll: %v", got.Reason)
	}
	if got := plan.EvalDNP3Rate(1, &control, rates, now.Add(time.Second)); !got.Allows() {
		t.Errorf("a second later: %v", got.Reason)
	}
}

func TestEvalDNP3DoesNotAllocate(t *testing.T) {
	plan := dnp3Plan(t, "functions: [read, direct_operate], masters: [1], objects: [g12v1, g60], points: [0-3], rate: 1000000/s", "functions: [read]")
	rates := plan.NewRates()
	r := &DNP3Request{Master: 1, Outstation: 10, Message: dnp3Message(t, "05 0c01 17 02 00"+latchOn+"01"+latchOn)}
	if n := testing.AllocsPerRun(200, func() { plan.EvalDNP3Rate(1, r, rates, time.Now()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestBitsAreJudgedByTheirRange: a message has room for 16,000 outputs, and each of them asked of each rule
// would hold up a verdict loop.
func TestBitsAreJudgedByTheirRange(t *testing.T) {
	var rules []string
	for range 64 {
		rules = append(rules, "functions: [write], masters: [1], outstations: [10], objects: [g10v1], points: [8-15999]")
	}
	plan := dnp3Plan(t, rules...)
	cost := func(bits string) time.Duration {
		r := DNP3Request{Master: 1, Outstation: 10, Message: dnp3Message(t, bits)}
		least := time.Hour
		for range 20 {
			start := time.Now()
			if v := plan.EvalDNP3(1, &r); !v.Allows() {
				t.Fatal(v.Reason)
			}
			least = min(least, time.Since(start))
		}
		return least
	}
	few := cost("02 0a 01 01 0800 0f00" + strings.Repeat("ff", 1))
	many := cost("02 0a 01 01 0800 7f3e" + strings.Repeat("ff", 1999))
	if many > 100*few {
		t.Errorf("15992 bits cost %v, 8 cost %v", many, few)
	}
	for _, bits := range []string{"02 0a 01 01 0700 0f00 ffff", "02 0a 01 01 783e 803e ffff", "02 0a 01 07 01 ff"} {
		r := DNP3Request{Master: 1, Outstation: 10, Message: dnp3Message(t, bits)}
		if v := plan.EvalDNP3(1, &r); v.Reason != verdict.ReasonPointNotPermitted {
			t.Errorf("%s: %v", bits, v.Reason)
		}
	}
}

func BenchmarkEvalDNP3(b *testing.B) {
	plan := dnp3Plan(b, "functions: [read], masters: [1]", "functions: [direct_operate], masters: [1], objects: [g12v1], points: [0-3], control_codes: [latch_on]")
	for name, body := range map[string]string{"poll": "01 3c0206 3c0306 3c0406 3c0106", "control": "05 0c01 17 01 00" + latchOn} {
		b.Run(name, func(b *testing.B) {
			r := &DNP3Request{Master: 1, Outstation: 10, Message: dnp3Message(b, body)}
			for b.Loop() {
				plan.EvalDNP3(1, r)
			}
		})
	}
}

func TestIntervals(t *testing.T) {
	for text, want := range map[string]Interval{
		"7": {7, 7}, "0-1500": {0, 1500}, "-10-10": {-10, 10}, "-10--5": {-10, -5}, "2.5-7.25": {2.5, 7.25}, "-1": {-1, -1}, "5 - 6": {5, 6},
	} {
		if got, err := parseInterval(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
		if got, err := parseInterval(want.String()); err != nil || got != want {
			t.Errorf("%v is written as %q: %v", want, want, err)
		}
	}
	for _, text := range []string{"", "-", "--1", "1-", "2-1", "1e9", "inf", "NaN", "0x10", "1-2-3", "1..2"} {
		if got, err := parseInterval(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	if contained([]Interval{{math.Inf(-1), math.Inf(1)}}, math.NaN()) {
		t.Error("what is no number is in a range")
	}
}

func TestMatchesName(t *testing.T) {
	for _, row := range []struct {
		glob, name string
		want       bool
	}{
		{"/a", "/a", true}, {"/a", "/A", false}, {"/a*", "/abc", true}, {"/a*", "/a/c", false}, {"*", "a\\b", false}, {"*.csv", "x.csv", true},
		{"*a*b", "xaybzb", true}, {"*a*b", "xayb.", false}, {"?", "x", true}, {"?", "/", false}, {"??", "x", false}, {"/*/*", "/a/b", true},
		{"", "", true}, {"*", "", true}, {"*", "..", false}, {"*/x", "../x", false}, {"*", "...", true}, {"/a*", "/a\x00", false}, {"a?c", "a?c", true},
	} {
		if got := matchesName(row.glob, []byte(row.name)); got != row.want {
			t.Errorf("%q matches %q: %v", row.glob, row.name, got)
		}
	}
}

func TestAdviceOnDNP3(t *testing.T) {
	for _, row := range []struct {
		rules []string
		want  int
	}{
		{[]string{"functions: [read]"}, 2}, // neither the restart bit nor confirmations
		{[]string{"functions: [read, confirm]"}, 1},
		{[]string{"functions: [read, confirm, write]"}, 0},
		{[]string{"functions: [read, confirm], masters: [1]", "functions: [write], masters: [2], objects: [g80v1]"}, 1},
		{[]string{"functions: [read, confirm], masters: [1]", "functions: [write], objects: [g80v1]"}, 0},
		{[]string{"functions: [unsolicited_response], masters: [1]", "functions: [confirm], masters: [2]"}, 1},
		{[]string{"functions: [direct_operate]"}, 0}, // nobody polls
	} {
		text := "    rules:\n"
		for _, r := range row.rules {
			text += "      - {" + r + "}\n"
		}
		p := mustParse(t, edit(t, base, "protocol: modbus", "protocol: dnp3", "    rules:\n      - functions: [read]\n        units: [1]\n", text))
		if got := p.Advice(); len(got) != row.want {
			t.Errorf("%q: %q, want %d sentences", row.rules, got, row.want)
		}
	}
	if n := len(mustParse(t, base).Advice()); n != 0 {
		t.Errorf("%d pieces of advice on another protocol", n)
	}
}
