package inspect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// The numbers in these names are the lines of the project's list of evasions.

// lawful checks that a poll still passes.
func lawful(t *testing.T, w *wire, sequence byte) {
	t.Helper()
	w.client(ask(sequence, dnp3.Read, 60, 2, 6))
	w.mustAllow("a poll")
	w.device(reply(sequence, 0))
	w.mustAllow("its response")
}

func TestEvasion17_FunctionInTheSecondSegment(t *testing.T) {
	message := append([]byte{0xc1, byte(dnp3.DirectOperate)}, indexed(12, 1, trip(9))...)
	for cut := 0; cut <= 2; cut++ {
		w := dnp3Wire(t, policy.DenyReset)
		lawful(t, w, 0)
		for _, f := range segments(5, message, cut) {
			w.client(f)
		}
		if w.last.Verdict.Allows() {
			t.Errorf("cut at %d: permitted", cut)
		}
		w.mustNotAct("a control behind its first segment")
	}
	w := dnp3Wire(t, policy.DenyReset)
	poll := []byte{0xc2, byte(dnp3.Read), 60, 2, 6, 60, 3, 6}
	for cut := 0; cut < len(poll); cut++ {
		for _, f := range segments(byte(2*cut), poll, cut) {
			w.client(f)
			w.mustAllow("a lawful request in two segments")
		}
		w.device(reply(2, 0))
		w.mustAllow("its response")
	}
}

func TestEvasion18_GarbageBeforeTheStart(t *testing.T) {
	control := ask(1, dnp3.DirectOperate, indexed(12, 1, trip(9))...)
	for _, garbage := range []string{"\x00", "\x05", "\x64", "\x05\x05", "\x05\x64", "garbage", "\x05\x64\x05\xc4"} {
		w := dnp3Wire(t, policy.DenyReset)
		lawful(t, w, 0)
		w.client(append([]byte(garbage), control...))
		w.mustDeny("garbage", verdict.ReasonMalformed)
		w.mustNotAct("a control behind garbage")

		w = dnp3Wire(t, policy.DenyReset)
		w.client([]byte(garbage))
		w.client(control)
		if w.last.Verdict.Allows() {
			t.Errorf("%q and then a control in a segment of its own: permitted", garbage)
		}
		w.mustNotAct("a control behind a segment of garbage")
	}
}

func TestEvasion19_SeveralFramesAndDatagrams(t *testing.T) {
	poll, control := ask(1, dnp3.Read, 60, 2, 6), ask(2, dnp3.DirectOperate, indexed(12, 1, trip(9))...)
	keepAlive := dnp3.AppendFrame(nil, 0xc9, outstation, masterStation, nil)
	for name, payload := range map[string][]byte{
		"a poll, then a control":       join(poll, control),
		"a control between polls":      join(poll, control, poll),
		"a keep-alive, then a control": join(keepAlive, control),
		"keep-alives around a control": join(keepAlive, control, keepAlive),
	} {
		w := dnp3Wire(t, policy.DenyReset)
		w.client(payload)
		w.mustDeny(name, verdict.ReasonPointNotPermitted)
		w.mustNotAct(name)

		w = newWire(t, dnp3Plan(t, policy.DenyReset, dnp3Rules...))
		j := w.datagram(stream.FromInitiator, string(payload))
		w.mustDeny(name+" in a datagram", verdict.ReasonPointNotPermitted)
		if len(j.Messages) == 0 {
			t.Errorf("%s: no message is told of", name)
		}
		w.datagram(stream.FromInitiator, string(join(keepAlive, poll)))
		w.mustAllow("the next datagram")
		w.datagram(stream.FromResponder, string(reply(1, 0)))
		w.mustAllow("its response")
	}
	w := dnp3Wire(t, policy.DenyReset)
	w.client(join(keepAlive, poll))
	w.mustAllow("a keep-alive and a poll")
	w.device(join(dnp3.AppendFrame(nil, 0x0b, masterStation, outstation, nil), reply(1, 0)))
	w.mustAllow("their answers")
}

// A request in two datagrams, of which the outstation may get one, is not the request that was judged.
func TestEvasion19_RequestInTwoDatagrams(t *testing.T) {
	w := newWire(t, dnp3Plan(t, policy.DenyReset, dnp3Rules...))
	message := append([]byte{0xc1, byte(dnp3.DirectOperate)}, indexed(12, 1, latch(1))...)
	for _, f := range segments(0, message, 6) {
		w.datagram(stream.FromInitiator, string(f))
		w.mustDeny("a request in pieces", verdict.ReasonMalformed)
	}
	w.datagram(stream.FromInitiator, string(segments(0, message)[0]))
	w.mustAllow("the same in one")
	w.datagram(stream.FromInitiator, string(ask(2, dnp3.Read, 60, 2, 6)[:12]))
	w.mustDeny("half a frame", verdict.ReasonMalformed)
}

func TestEvasion20_UnknownObjects(t *testing.T) {
	control := indexed(12, 1, trip(9))
	for name, objects := range map[string][]byte{
		"an unknown object before a control":      join([]byte{200, 1, 0x17, 1, 9, 0, 0}, control),
		"one without contents":                    join([]byte{200, 1, 6}, control),
		"a sized one":                             join([]byte{200, 1, 0x5b, 1, 1, 0, 0xff}, control),
		"an input before a control":               join([]byte{1, 2, 0x17, 1, 0, 0}, control),
		"an unknown variation":                    {12, 9, 0x17, 1, 9, 0},
		"any variation":                           {12, 0, 0x17, 1, 9},
		"no point":                                join([]byte{12, 1, 6}, control),
		"a count without indices":                 join([]byte{12, 1, 7, 1}, crob(0x81, marker)),
		"a size for an index":                     join([]byte{12, 1, 0x5b, 1, 11, 0}, crob(0x81, marker)),
		"half a header":                           {12, 1},
		"half an object":                          indexed(12, 1, latch(1)[:8]),
		"bytes behind the last object":            join(indexed(12, 1, latch(1)), []byte{1}),
		"a permitted control, then an unknown":    join(indexed(12, 1, latch(1)), []byte{200, 1, 6}),
		"a mask without its block":                {12, 3, 0, 0, 7, 0xff},
		"a block without its mask":                join([]byte{12, 2, 7, 1}, crob(3, marker)),
		"a block, and a control instead of masks": join([]byte{12, 2, 7, 1}, crob(3, 1), control),
	} {
		for _, function := range []dnp3.FunctionCode{dnp3.Select, dnp3.Operate, dnp3.DirectOperate, dnp3.DirectOperateNoReply} {
			w := dnp3Wire(t, policy.DenyReset)
			w.client(ask(1, function, objects...))
			if w.last.Verdict.Allows() {
				t.Errorf("%s under %v: permitted", name, function)
			}
			w.mustNotAct(name)
		}
	}
}

func TestEvasion21_Decoys(t *testing.T) {
	message := append([]byte{0xc1, byte(dnp3.DirectOperate)}, indexed(12, 1, trip(9))...)
	harmless := append([]byte{0xc1, byte(dnp3.DirectOperate)}, indexed(12, 1, latch(1))...)
	good, bad := segments(7, harmless, 6), segments(7, message, 6)
	broken := func(f []byte, at int) []byte {
		f = slices.Clone(f)
		f[at] ^= 1
		return f
	}
	segment := func(header byte, data ...byte) []byte {
		return dnp3.AppendFrame(nil, fromMaster, outstation, masterStation, append([]byte{header}, data...))
	}
	for name, frames := range map[string][][]byte{
		"wrong CRC of a block":          {good[0], broken(good[1], 14), bad[1]},
		"wrong CRC of the header":       {good[0], broken(good[1], 8), bad[1]},
		"sequence repeated":             {good[0], segment(0x07|0x80, harmless[6:]...), bad[1]},
		"sequence skipped":              {good[0], segment(0x09|0x80, harmless[6:]...), bad[1]},
		"first within":                  {good[0], good[0], bad[1]},
		"whole message within":          {good[0], segments(20, harmless)[0], bad[1]},
		"orphan":                        {good[1], bad[1]},
		"final repeated":                {good[0], good[1], bad[1]},
		"another final with its number": {good[0], segment(0x08|0x80, harmless[6:]...), bad[1]},
		"confirmed data in pieces": {
			dnp3.AppendFrame(nil, 0xd3, outstation, masterStation, append([]byte{0x47}, harmless[:6]...)),
			dnp3.AppendFrame(nil, 0xf3, outstation, masterStation, append([]byte{0x88}, harmless[6:]...)), bad[1],
		},
	} {
		w := dnp3Wire(t, policy.DenyReset)
		lawful(t, w, 0)
		denied := false
		for _, f := range frames {
			w.client(f)
			denied = denied || !w.last.Verdict.Allows()
		}
		if !denied {
			t.Errorf("%s: permitted", name)
		}
		w.mustNotAct(name)
		w.client(ask(2, dnp3.DirectOperate, indexed(12, 1, trip(9))...))
		w.mustNotAct(name + ", and a control after it")
	}
	w := dnp3Wire(t, policy.DenyReset)
	for i := range 200 {
		for _, f := range segments(byte(2*i), harmless, 6) {
			w.client(f)
			w.mustAllow("a lawful control in two segments, sequence after sequence")
		}
		w.device(reply(1, 0, indexed(12, 1, latch(1))...))
		w.mustAllow("its response")
	}
}

func TestEvasion22_InterleavedStations(t *testing.T) {
	rules := []string{`{functions: [direct_operate], masters: [1], outstations: [10], objects: [g12v1], points: [0-3]}`,
		`{functions: [direct_operate], masters: [1], outstations: [11], objects: [g12v1], points: [9]}`}
	to := func(station uint16, header byte, data []byte) []byte {
		return dnp3.AppendFrame(nil, fromMaster, station, masterStation, append([]byte{header}, data...))
	}
	harmless := append([]byte{0xc1, byte(dnp3.DirectOperate)}, indexed(12, 1, latch(1))...)
	message := append([]byte{0xc1, byte(dnp3.DirectOperate)}, indexed(12, 1, trip(9))...)

	// What is permitted for each goes on, however it is mixed.
	w := connected(t, dnp3Plan(t, policy.DenyReset, rules...))
	for _, f := range [][]byte{to(10, 0x40, harmless[:6]), to(11, 0x40, message[:6]), to(10, 0x81, harmless[6:]), to(11, 0x81, message[6:])} {
		w.client(f)
		w.mustAllow("segments for two stations")
	}
	// Its halves are not exchanged: the second half of station 11's message is for station 10 a control
	// that is not permitted.
	w = connected(t, dnp3Plan(t, policy.DenyReset, rules...))
	for _, f := range [][]byte{to(10, 0x40, harmless[:6]), to(11, 0x40, message[:6])} {
		w.client(f)
		w.mustAllow("first segments for two stations")
	}
	w.client(to(10, 0x81, message[6:]))
	w.mustDeny("the other station's second segment", verdict.ReasonPointNotPermitted)
	w.mustNotAct("a control put together out of two messages")
}

// TestEvasion22_OneStationTwoRequests: an outstation that has one place for what it puts together would read
// the beginning of one request and the end of another.
func TestEvasion22_OneStationTwoRequests(t *testing.T) {
	rules := []string{`{functions: [direct_operate], masters: [1-2], outstations: [10, 65535], objects: [g12v1], points: [0-3]}`,
		`{functions: [read], masters: [1-2], outstations: [10]}`}
	data := func(to, from uint16, header byte, data []byte) []byte {
		return dnp3.AppendFrame(nil, fromMaster, to, from, append([]byte{header}, data...))
	}
	control := append([]byte{0xc1, byte(dnp3.DirectOperate)}, indexed(12, 1, latch(1), latch(2))...)
	for name, second := range map[string][]byte{
		"another master":       data(10, 2, 0x40, control[:8]),
		"another master's all": data(10, 2, 0xc0, control),
		"every station":        data(0xffff, 1, 0x40, control[:8]),
	} {
		w := connected(t, dnp3Plan(t, policy.DenyReset, rules...))
		w.client(data(10, 1, 0x40, control[:8]))
		w.mustAllow("the beginning of a request")
		w.client(second)
		w.mustDeny(name, verdict.ReasonMalformed)
	}
	w := connected(t, dnp3Plan(t, policy.DenyReset, rules...))
	w.client(join(data(10, 1, 0x40, control[:8]), data(10, 1, 0x81, control[8:]), data(10, 2, 0xc0, control)))
	w.mustAllow("one after another")
}

func TestEvasion23_Addresses(t *testing.T) {
	control := append([]byte{0xc1, 0xc1, byte(dnp3.DirectOperate)}, indexed(12, 1, at(1, crob(3, marker)))...)
	for _, row := range []struct {
		name                string
		control             byte
		destination, source uint16
		want                verdict.Reason
	}{
		{"reserved", fromMaster, 0xfff0, 1, verdict.ReasonMalformed},
		{"last reserved", fromMaster, 0xfffb, 1, verdict.ReasonMalformed},
		{"self", fromMaster, 0xfffc, 1, verdict.ReasonAddressNotPermitted},
		{"broadcast", fromMaster, 0xffff, 1, verdict.ReasonAddressNotPermitted},
		{"broadcast with confirmation", fromMaster, 0xfffd, 1, verdict.ReasonAddressNotPermitted},
		{"another outstation", fromMaster, 11, 1, verdict.ReasonAddressNotPermitted},
		{"another master", fromMaster, 10, 2, verdict.ReasonAddressNotPermitted},
		{"from a reserved address", fromMaster, 10, 0xfff3, verdict.ReasonMalformed},
		{"from broadcast", fromMaster, 10, 0xffff, verdict.ReasonMalformed},
		{"direction bit of an outstation", fromOutstation, 10, 1, verdict.ReasonMalformed},
		{"addresses exchanged", fromMaster, 1, 10, verdict.ReasonAddressNotPermitted},
	} {
		for _, rules := range [][]string{dnp3Rules, {`{functions: [direct_operate], masters: [1-9], outstations: [10]}`}} {
			w := connected(t, dnp3Plan(t, policy.DenyReset, rules...))
			if row.name == "another master" && len(rules) == 1 {
				continue // permitted there
			}
			w.client(dnp3.AppendFrame(nil, row.control, row.destination, row.source, control))
			w.mustDeny(row.name, row.want)
			w.mustNotAct(row.name)
		}
	}
	// What was denied is told by its name, where its first segment holds it.
	for _, header := range []byte{0xc1, 0x81} {
		w := dnp3Wire(t, policy.DenyReset)
		lawful(t, w, 0)
		j := w.client(dnp3.AppendFrame(nil, fromMaster, 11, masterStation, append([]byte{header}, control[1:]...)))
		want := map[byte]string{0xc1: "direct_operate", 0x81: ""}[header]
		if m := j.Messages[0]; m.Operation() != want || !strings.HasPrefix(m.Detail(), "master 1 outstation 11") {
			t.Errorf("told as %q, %q, want %q", m.Operation(), m.Detail(), want)
		}
	}
	// Without outstations a rule is about any, and still not about all at once.
	w := connected(t, dnp3Plan(t, policy.DenyReset, `{functions: [direct_operate]}`))
	w.client(dnp3.AppendFrame(nil, fromMaster, 0xffff, 1, control))
	w.mustDeny("broadcast that no rule names", verdict.ReasonAddressNotPermitted)
	w = connected(t, dnp3Plan(t, policy.DenyReset, `{functions: [direct_operate], outstations: [0xffff]}`))
	w.client(dnp3.AppendFrame(nil, fromMaster, 0xffff, 1, control))
	w.mustAllow("broadcast that a rule names")
	// The other way round: an outstation's side sends what a master sends.
	w = dnp3Wire(t, policy.DenyReset)
	w.device(ask(1, dnp3.DirectOperate, indexed(12, 1, latch(1))...))
	w.mustDeny("a request from the outstation's side", verdict.ReasonMalformed)
}

func TestEvasion24_ApplicationLayer(t *testing.T) {
	control := indexed(12, 1, trip(9))
	requests := map[string]struct {
		message []byte
		want    verdict.Reason
	}{
		"first of several fragments":  {append([]byte{0x81, 5}, control...), verdict.ReasonMalformed},
		"last of several fragments":   {append([]byte{0x41, 5}, control...), verdict.ReasonMalformed},
		"asks for a confirmation":     {append([]byte{0xe1, 5}, control...), verdict.ReasonMalformed},
		"unsolicited":                 {append([]byte{0xd1, 5}, control...), verdict.ReasonMalformed},
		"a response":                  {append([]byte{0xc1, 129, 0, 0}, control...), verdict.ReasonMalformed},
		"confirm with a control":      {append([]byte{0xc1, 0}, control...), verdict.ReasonMalformed},
		"restart":                     {[]byte{0xc1, 13}, verdict.ReasonFunctionNotPermitted},
		"restart with a control":      {append([]byte{0xc1, 13}, control...), verdict.ReasonMalformed},
		"direct operate":              {append([]byte{0xc1, 5}, control...), verdict.ReasonPointNotPermitted},
		"direct operate, no reply":    {append([]byte{0xc1, 6}, control...), verdict.ReasonPointNotPermitted},
		"another control code":        {append([]byte{0xc1, 5}, indexed(12, 1, at(1, crob(0x41, marker)))...), verdict.ReasonValueNotPermitted},
		"queue bit":                   {append([]byte{0xc1, 5}, indexed(12, 1, at(1, crob(0x13, marker)))...), verdict.ReasonValueNotPermitted},
		"trip with a latch":           {append([]byte{0xc1, 5}, indexed(12, 1, at(1, crob(0x83, marker)))...), verdict.ReasonValueNotPermitted},
		"range that runs backwards":   {append([]byte{0xc1, 5, 12, 1, 0, 3, 1}, crob(3, marker)...), verdict.ReasonMalformed},
		"range of four bytes":         {append([]byte{0xc1, 5, 12, 1, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, crob(3, marker)...), verdict.ReasonMalformed},
		"count bomb":                  {append([]byte{0xc1, 5, 12, 1, 0x28, 0xff, 0xff, 1, 0}, crob(3, marker)...), verdict.ReasonMalformed},
		"count bomb of nothing":       {[]byte{0xc1, 2, 60, 2, 9, 0xff, 0xff, 0xff, 0xff}, verdict.ReasonObjectNotPermitted},
		"qualifier 0x5b":              {append([]byte{0xc1, 5, 12, 1, 0x5b, 1, 11, 0}, crob(3, marker)...), verdict.ReasonMalformed},
		"reserved qualifier":          {append([]byte{0xc1, 5, 12, 1, 0x97, 1, 1}, crob(3, marker)...), verdict.ReasonMalformed},
		"virtual addresses":           {append([]byte{0xc1, 5, 12, 1, 3, 1, 1}, crob(3, marker)...), verdict.ReasonMalformed},
		"outputs written":             {append([]byte{0xc1, 2, 10, 1, 0, 0, 0}, 1), verdict.ReasonObjectNotPermitted},
		"a control that is written":   {append([]byte{0xc1, 2}, indexed(12, 1, latch(1))...), verdict.ReasonObjectNotPermitted},
		"analog output":               {append([]byte{0xc1, 5}, indexed(41, 2, []byte{1, 5, 0, 0})...), verdict.ReasonObjectNotPermitted},
		"pattern":                     {join([]byte{0xc1, 5, 12, 2, 7, 1}, crob(3, marker), []byte{12, 3, 0, 0, 7, 0xff}), verdict.ReasonObjectNotPermitted},
		"file":                        {[]byte{0xc1, 25, 70, 3, 0x5b, 1, 26, 0, 26, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0}, verdict.ReasonFunctionNotPermitted},
		"a file's contents":           {[]byte{0xc1, 1, 70, 5, 0x5b, 1, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0}, verdict.ReasonObjectNotPermitted},
		"data set":                    {[]byte{0xc1, 2, 86, 1, 0x5b, 1, 1, 0, 0}, verdict.ReasonObjectNotPermitted},
		"device attribute":            {[]byte{0xc1, 2, 0, 247, 0, 0, 0, 1, 1, 'x'}, verdict.ReasonObjectNotPermitted},
		"authentication":              {[]byte{0xc1, 32, 120, 2, 0x5b, 1, 1, 0, 0}, verdict.ReasonFunctionNotPermitted},
		"a control in authentication": {append([]byte{0xc1, 32}, control...), verdict.ReasonMalformed},
		"a function beyond":           {[]byte{0xc1, 34}, verdict.ReasonFunctionNotPermitted},
	}
	for name, row := range requests {
		for _, onDeny := range []policy.OnDeny{policy.DenyReset, policy.DenyDrop} {
			w := dnp3Wire(t, onDeny)
			lawful(t, w, 0)
			w.client(segments(1, row.message)[0])
			w.mustDeny(name, row.want)
			w.mustNotAct(name)
			if !w.ended {
				t.Errorf("%s: the connection goes on", name)
			}
		}
	}
	if t.Failed() {
		return
	}
	wrapped := func(inner []byte) []byte {
		return join([]byte{0xc1, 5, 120, 3, 7, 1, 1, 0, 0, 0, 1, 0}, inner, []byte{120, 9, 0x5b, 1, 4, 0, 1, 2, 3, 4})
	}
	w := dnp3Wire(t, policy.DenyReset)
	w.client(segments(1, wrapped(control))[0])
	w.mustDeny("a control that is authenticated", verdict.ReasonPointNotPermitted)
	w = dnp3Wire(t, policy.DenyReset)
	w.client(segments(1, wrapped(indexed(12, 1, latch(1))))[0])
	w.mustAllow("a permitted one")
}

func TestEvasion24_Responses(t *testing.T) {
	w := dnp3Wire(t, policy.DenyReset)
	lawful(t, w, 3)
	w.device(reply(3, 0))
	w.mustDeny("a response that answers nothing", verdict.ReasonUnsolicitedReply)

	w = dnp3Wire(t, policy.DenyReset)
	w.client(ask(3, dnp3.Read, 60, 2, 6))
	w.device(reply(4, 0))
	w.mustDeny("a response with another sequence number", verdict.ReasonUnsolicitedReply)

	fragment := func(control byte) []byte {
		return dnp3.AppendFrame(nil, fromOutstation, masterStation, outstation, []byte{0xc0, control, 129, 0, 0})
	}
	w = dnp3Wire(t, policy.DenyReset)
	w.client(ask(15, dnp3.Read, 60, 2, 6))
	for _, control := range []byte{0xaf, 0x20, 0x41} { // first; next; last
		w.device(fragment(control))
		w.mustAllow("a response in three fragments")
		if control != 0x41 {
			w.client(ask(control&15, dnp3.Confirm))
			w.mustAllow("its confirmation")
		}
	}
	w.device(fragment(0x42))
	w.mustDeny("a fourth", verdict.ReasonUnsolicitedReply)

	w = dnp3Wire(t, policy.DenyReset)
	w.device(unasked(0, 2, 1, 0x17, 1, 0, 0x81))
	w.mustAllow("an unsolicited response where they are enabled")
	w = connected(t, dnp3Plan(t, policy.DenyReset, `{functions: [read]}`))
	w.device(unasked(0, 2, 1, 0x17, 1, 0, 0x81))
	w.mustDeny("an unsolicited response where they are not", verdict.ReasonFunctionNotPermitted)
}

func TestEvasion24_SelectBeforeOperate(t *testing.T) {
	bound := []string{`{functions: [select, operate], objects: [g12v1, g41v2], select_before_operate: 5s}`, `{functions: [read, confirm]}`}
	block, other := indexed(12, 1, latch(1)), indexed(12, 1, latch(2))
	type act struct {
		wait     time.Duration
		function dnp3.FunctionCode
		sequence byte
		objects  []byte
	}
	rows := []struct {
		name string
		acts []act
		want verdict.Reason // of the last
	}{
		{"bound", []act{{0, dnp3.Select, 3, block}, {0, dnp3.Operate, 4, block}}, verdict.ReasonPermitted},
		{"sequence wraps", []act{{0, dnp3.Select, 15, block}, {0, dnp3.Operate, 0, block}}, verdict.ReasonPermitted},
		{"repeated", []act{{0, dnp3.Select, 3, block}, {0, dnp3.Operate, 4, block}, {0, dnp3.Operate, 4, block}}, verdict.ReasonPermitted},
		{"confirmation between", []act{{0, dnp3.Select, 3, block}, {0, dnp3.Confirm, 9, nil}, {0, dnp3.Operate, 4, block}}, verdict.ReasonPermitted},
		{"no select", []act{{0, dnp3.Operate, 4, block}}, verdict.ReasonFunctionNotPermitted},
		{"another point", []act{{0, dnp3.Select, 3, block}, {0, dnp3.Operate, 4, other}}, verdict.ReasonFunctionNotPermitted},
		{"another qualifier", []act{{0, dnp3.Select, 3, block}, {0, dnp3.Operate, 4, append([]byte{12, 1, 0x28, 1, 0, 1, 0}, block[5:]...)}}, verdict.ReasonFunctionNotPermitted},
		{"one more object", []act{{0, dnp3.Select, 3, block}, {0, dnp3.Operate, 4, join(block, other)}}, verdict.ReasonFunctionNotPermitted},
		{"same sequence", []act{{0, dnp3.Select, 3, block}, {0, dnp3.Operate, 3, block}}, verdict.ReasonFunctionNotPermitted},
		{"later sequence", []act{{0, dnp3.Select, 3, block}, {0, dnp3.Operate, 5, block}}, verdict.ReasonFunctionNotPermitted},
		{"a poll between", []act{{0, dnp3.Select, 3, block}, {0, dnp3.Read, 4, []byte{60, 2, 6}}, {0, dnp3.Operate, 4, block}}, verdict.ReasonFunctionNotPermitted},
		{"another select between", []act{{0, dnp3.Select, 3, block}, {0, dnp3.Select, 3, other}, {0, dnp3.Operate, 4, block}}, verdict.ReasonFunctionNotPermitted},
		{"too late", []act{{0, dnp3.Select, 3, block}, {6 * time.Second, dnp3.Operate, 4, block}}, verdict.ReasonFunctionNotPermitted},
		{"in time", []act{{0, dnp3.Select, 3, block}, {5 * time.Second, dnp3.Operate, 4, block}}, verdict.ReasonPermitted},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := connected(t, dnp3Plan(t, policy.DenyReset, bound...))
			for i, a := range row.acts {
				w.now = w.now.Add(a.wait)
				w.client(ask(a.sequence, a.function, a.objects...))
				if i < len(row.acts)-1 {
					w.mustAllow("before the last")
				}
			}
			if w.last.Verdict.Reason != row.want {
				t.Errorf("%v, want %v", w.last.Verdict, row.want)
			}
		})
	}
	// Of a segment that does not leave, the select is not remembered.
	w := newWire(t, dnp3Plan(t, policy.DenyReset, bound...))
	w.datagram(stream.FromInitiator, string(join(ask(3, dnp3.Select, block...), ask(4, dnp3.ColdRestart))))
	w.mustDeny("a select and a restart", verdict.ReasonFunctionNotPermitted)
	w.datagram(stream.FromInitiator, string(ask(4, dnp3.Operate, block...)))
	w.mustDeny("an operate whose select stayed", verdict.ReasonFunctionNotPermitted)
}

// TestNoSpellingOfAControlArrives writes a control that the policy does not name in every way: qualifier,
// function, place among others, segments, frames in TCP segments, link service, address.
func TestNoSpellingOfAControlArrives(t *testing.T) {
	headers := func(point byte, block []byte) map[string][]byte {
		out := map[string][]byte{}
		for code := range byte(3) { // 0x00 to 0x02, 0x17 to 0x39
			width := 1 << code
			index := make([]byte, width)
			index[0] = point
			ranged := join([]byte{12, 1, code}, index, index, block)
			count := make([]byte, width)
			count[0] = 1
			listed := join([]byte{12, 1, 0x17 + code*0x11}, count, index, block)
			out[fmt.Sprintf("qualifier %#x", ranged[2])] = ranged
			out[fmt.Sprintf("qualifier %#x", listed[2])] = listed
		}
		out["behind a permitted object"] = indexed(12, 1, latch(0), at(point, block))
		out["before one"] = indexed(12, 1, at(point, block), latch(0))
		out["within a range"] = join([]byte{12, 1, 0, point - 1, point}, crob(3, 1), block)
		return out
	}
	spellings := map[string][]byte{}
	for name, h := range headers(9, crob(3, marker)) {
		spellings[name] = h
		spellings[name+" behind a permitted header"] = join(indexed(12, 1, latch(1)), h)
		spellings[name+" before one"] = join(h, indexed(12, 1, latch(1)))
	}
	for name, h := range headers(2, crob(0x41, marker)) {
		spellings[name+", code"] = h
	}
	spellings["pattern"] = join([]byte{12, 2, 7, 1}, crob(3, marker), []byte{12, 3, 0, 8, 15, 0xff})
	count := 0
	for name, objects := range spellings {
		for function := dnp3.Select; function <= dnp3.DirectOperateNoReply; function++ {
			message := append([]byte{0xc1, byte(function)}, objects...)
			for cut := 0; cut < len(message); cut += 1 + count%3 {
				for _, onDeny := range []policy.OnDeny{policy.DenyReset, policy.DenyException} {
					count++
					frames := segments(byte(count), message, cut)
					if cut == 0 {
						frames = segments(byte(count), message)
					}
					sendSpelling(t, name, onDeny, frames, count)
				}
			}
		}
	}
	t.Logf("%d ways", count)
}

// sendSpelling sends frames in one of several ways, by i.
func sendSpelling(t *testing.T, name string, onDeny policy.OnDeny, frames [][]byte, i int) {
	t.Helper()
	w := dnp3Wire(t, onDeny)
	for _, f := range frames {
		switch i % 5 {
		case 1: // to everybody
			binary.LittleEndian.PutUint16(f[4:], 0xfffc+uint16(i/5%4))
		case 2: // confirmed
			f[3] = 0xd3 | byte(i&2)<<4
		}
		binary.LittleEndian.PutUint16(f[8:], bitwiseCRC(f[:8]))
	}
	whole := bytes.Join(frames, nil)
	switch i % 7 {
	case 0:
		for _, b := range whole {
			w.client([]byte{b})
		}
	case 1, 2:
		w.client(whole)
	case 3:
		w.client(join(ask(0, dnp3.Read, 60, 2, 6), whole))
	default:
		w.client(frames...)
	}
	w.mustNotAct(fmt.Sprintf("%s, way %d", name, i))
}

// The outstation of these tests does act on what arrives.
func TestNaiveOutstationActs(t *testing.T) {
	message := append([]byte{0xc1, byte(dnp3.DirectOperate)}, indexed(12, 1, trip(9))...)
	for cut := range message {
		frames := segments(byte(cut), message, cut)
		if cut == 0 {
			frames = segments(0, message)
		}
		for _, lax := range []bool{false, true} {
			n := naive{lax: lax}
			n.take(append([]byte("garbage"), bytes.Join(frames, nil)...))
			if len(n.acted) != 1 || !bytes.Equal(n.acted[0], message) {
				t.Errorf("cut at %d: acted on % x", cut, n.acted)
			}
		}
	}
}
