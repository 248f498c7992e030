package inspect

import (
	"bytes"
	"slices"
	"testing"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// sending makes an Unconnected Send of parts that need not agree.
func sending(size uint16, service, pad []byte, words byte, route []byte) []byte {
	return ct.Request(0x52, ct.Manager(), []byte{10, 5}, ct.U16(size), service, pad, []byte{words, 0}, route)
}

// packetOf makes a Multiple Service Packet of parts that need not agree.
func packetOf(count uint16, offsets []uint16, services ...[]byte) []byte {
	b := ct.U16(count)
	for _, o := range offsets {
		b = append(b, ct.U16(o)...)
	}
	return ct.Request(0x0a, ct.Router(), b, ct.Join(services...))
}

// TestTricksWithARefusedService: somebody who wants a reset or a write through, by messages that lie about
// themselves, by every way around that we could think of. A device that hunts for services in whatever has come
// finds none that is denied: not the last byte of any.
func TestTricksWithARefusedService(t *testing.T) {
	reset, write, read := resetIdentity(), otherTag(1), readSpeed()
	odd := append(slices.Clone(read), 0) // one byte more than a read has
	route := ct.Port(1, 0)
	rr := func(service []byte) []byte { return ct.RR(enipHandle, 7, service) }
	items := func(list ...[]byte) []byte { return ct.Encapsulate(0x6f, enipHandle, 7, ct.Items(list...)) }
	unit := func(list ...[]byte) []byte { return ct.Encapsulate(0x70, enipHandle, 0, ct.Items(list...)) }
	null := ct.Item(0, nil)
	pccc := ct.Request(0x4b, ct.Join(ct.Logical(0x20, 0x67, 2), ct.Instance(1)), []byte{7, 0x4d, 0, 1, 2, 3, 4}, []byte{0x0f, 0, 1, 0, 0x80, 6})
	identity := func(path ...[]byte) []byte { return ct.Request(0x05, ct.Join(path...)) }
	lying := func(at int, to byte, b []byte) []byte {
		b = slices.Clone(b)
		b[at] = to
		return b
	}
	n := uint16(len(read))
	bad, service := verdict.ReasonMalformed, verdict.ReasonServiceNotPermitted

	for name, r := range map[string]struct {
		message []byte
		want    verdict.Reason
	}{
		// 26: nested, and with sizes that lie.
		"26 a reset in a packet in a send in a packet":  {rr(ct.Multiple(read, ct.Unconnected(ct.Multiple(read, reset), route))), service},
		"26 a reset in a send in a packet in a send":    {rr(ct.Unconnected(ct.Multiple(ct.Unconnected(reset)), route)), service},
		"26 an odd message in a send":                   {rr(ct.Unconnected(ct.Request(0x05, ct.Join(ct.Class(1), ct.Instance(1)), []byte{1}), route)), service},
		"26 a pad byte that is a service":               {rr(sending(n+1, odd, []byte{5}, 1, route)), bad},
		"26 a size that ends before the service":        {rr(sending(n-2, read, nil, 1, route)), bad},
		"26 a size that leaves a reset to the route":    {rr(sending(n, read, nil, byte(len(reset)/2), reset)), bad},
		"26 a size that takes the route in":             {rr(sending(n+4, read, nil, 1, route)), bad},
		"26 a size of 0":                                {rr(sending(0, reset, nil, 1, route)), bad},
		"26 a size of 65535":                            {rr(sending(0xffff, reset, nil, 1, route)), bad},
		"26 a route that is longer than the message":    {rr(sending(n, read, nil, 9, route)), bad},
		"26 a route that is shorter, and a reset":       {rr(sending(n, read, nil, 1, ct.Join(route, reset))), bad},
		"26 a packet in no router":                      {rr(ct.Request(0x0a, ct.Join(ct.Class(1), ct.Instance(1)), ct.Packet(reset))), service},
		"26 a packet without a path":                    {rr(ct.Request(0x0a, nil, ct.Packet(reset))), service},
		"26 a packet behind a hop":                      {rr(ct.Request(0x0a, ct.Join(route, ct.Router()), ct.Packet(reset))), service},
		"26 an offset into the packet around":           {rr(ct.Multiple(packetOf(1, []uint16{4 + 2*n}, read), reset)), bad},
		"26 one count and two services":                 {rr(packetOf(1, []uint16{4}, read, reset)), bad},
		"26 a count of more than there are":             {rr(packetOf(3, []uint16{6, 6 + n}, read, reset)), bad},
		"26 offsets in the wrong order":                 {rr(packetOf(2, []uint16{6 + n, 6}, reset, read)), bad},
		"26 a count in the other byte order":            {rr(packetOf(0x0100, []uint16{4}, reset)), bad},
		"26 a send by another instance":                 {rr(ct.Request(0x52, ct.Join(ct.Class(6), ct.Logical(0x24, 9, 2)), []byte{10, 5}, ct.U16(uint16(len(reset))), reset, []byte{1, 0}, route)), service},
		"26 a send by a class of 16 bits":               {rr(ct.Request(0x52, ct.Join(ct.Logical(0x20, 6, 1), ct.Instance(1)), []byte{10, 5}, ct.U16(uint16(len(reset))), reset, []byte{1, 0}, route)), service},
		"26 a send inside another object":               {rr(ct.Request(0x52, ct.Join(ct.Class(4), ct.Instance(1), ct.Manager()), []byte{10, 5}, ct.U16(uint16(len(reset))), reset, []byte{1, 0}, route)), bad},
		"26 PCCC's change of mode in a packet":          {rr(ct.Multiple(read, pccc)), service},
		"26 a download in a send":                       {rr(ct.Unconnected(ct.Request(0x4c, ct.Join(ct.Class(0x37), ct.Instance(1)), make([]byte, 4)), route)), service},
		"26 a stop in a packet of stops":                {rr(ct.Multiple(ct.Multiple(ct.Request(0x07, ct.Join(ct.Class(1), ct.Instance(1)))))), service},
		"26 apply attributes":                           {rr(ct.Request(0x0d, ct.Join(ct.Class(1), ct.Instance(1)))), service},
		"26 a create":                                   {rr(ct.Request(0x08, ct.Class(0x6b), make([]byte, 4))), service},
		"26 a request with the bit of a reply":          {rr(lying(0, 0x85, reset)), bad},
		"26 a request with the code 0":                  {rr(lying(0, 0, reset)), bad},
		"26 a write whose path is longer than it is":    {rr(lying(1, 200, write)), bad},
		"26 a write whose path ends in the middle":      {rr(lying(1, write[1]-1, write)), bad},
		"26 a reset whose path is shorter":              {rr(lying(1, 1, reset)), service},
		"26 a reset without a path":                     {rr(ct.Request(0x05, nil)), service},
		"26 a read with a reset behind its data":        {rr(ct.Join(read, reset)), bad},
		"26 a write with a write behind its data":       {rr(ct.Join(setpoint(1), write)), bad},
		"26 a write that repeats another":               {rr(ct.Join(setpoint(1), ct.U16(1), ct.WriteDINT(ct.Symbol("Line3.Setpoinx"), 1))), bad},
		"26 a reset of one byte":                        {rr([]byte{0x05}), bad},
		"26 nothing":                                    {rr(nil), bad},
		"26 attributes to set hidden in a list to read": {rr(ct.Request(0x04, ct.Join(ct.Class(1), ct.Instance(1)), ct.U16(1), ct.U16(7), []byte{0})), service},

		// 27: items.
		"27 an empty data item, and another":          {items(null, ct.Item(0xb2, nil), ct.Item(0xb2, reset)), bad},
		"27 data in an item of no type":               {items(null, ct.Item(0xb2, read), ct.Item(0, reset)), bad},
		"27 data in a reserved item":                  {items(null, ct.Item(0x91, reset)), bad},
		"27 data in an item of PCCC":                  {items(null, ct.Item(0x85, reset)), bad},
		"27 data in an item of DTLS":                  {items(null, ct.Item(0x8003, reset)), bad},
		"27 a write in a socket address":              {items(null, ct.Item(0xb2, read), ct.Item(0x8000, write[:16])), bad},
		"27 a socket address with something behind":   {items(null, ct.Item(0xb2, read), ct.Item(0x8000, append(ct.Socket(2222, 0, 0, 0, 0)[:8], reset[:6]...))), bad},
		"27 a socket address first":                   {items(ct.Item(0x8000, ct.Socket(2222, 0, 0, 0, 0)), null, ct.Item(0xb2, read)), bad},
		"27 a count of two and three items":           {ct.Encapsulate(0x6f, enipHandle, 7, append(ct.Items(null, ct.Item(0xb2, read)), ct.Item(0xb2, reset)...)), bad},
		"27 a count of three and two items":           {lying(30, 3, items(null, ct.Item(0xb2, read))), bad},
		"27 a sequenced address":                      {unit(ct.Item(0x8002, ct.Join(ct.U32(0x70001), ct.U32(1))), ct.Item(0xb1, ct.Join(ct.U16(1), write))), bad},
		"27 an address of 8 bytes":                    {unit(ct.Item(0xa1, make([]byte, 8)), ct.Item(0xb1, ct.Join(ct.U16(1), write))), bad},
		"27 an address of 2 bytes":                    {unit(ct.Item(0xa1, make([]byte, 2)), ct.Item(0xb1, ct.Join(ct.U16(1), write))), bad},
		"27 a connected address, unconnected data":    {unit(ct.Item(0xa1, ct.U32(1)), ct.Item(0xb2, write)), bad},
		"27 no address, connected data":               {unit(null, ct.Item(0xb1, ct.Join(ct.U16(1), write))), bad},
		"27 unconnected data in SendUnitData":         {unit(null, ct.Item(0xb2, write)), bad},
		"27 connected data in SendRRData":             {items(ct.Item(0xa1, ct.U32(1)), ct.Item(0xb1, ct.Join(ct.U16(1), write))), bad},
		"27 connected data without a sequence count":  {unit(ct.Item(0xa1, ct.U32(1)), ct.Item(0xb1, nil)), verdict.ReasonPathNotPermitted},
		"27 an item that is longer than the message":  {lying(38, 0xff, rr(write)), bad},
		"27 an item that is shorter than its service": {lying(38, byte(len(write)-4), rr(write)), bad},

		// 28: the same object, spelt so that it may pass for another.
		"28 a reset by a class of 32 bits":          {rr(identity(ct.Logical(0x20, 1, 2), ct.Logical(0x24, 1, 2))), service},
		"28 a reset behind a key":                   {rr(identity(ct.Key(), ct.Class(1), ct.Instance(1))), service},
		"28 a reset behind an inhibit time":         {rr(identity([]byte{0x43, 10}, ct.Class(1), ct.Instance(1))), service},
		"28 a reset inside an assembly":             {rr(identity(ct.Class(4), ct.Instance(100), ct.Class(1), ct.Instance(1))), service},
		"28 a reset of a tag":                       {rr(identity(ct.Symbol("Line3.Speed"))), service},
		"28 a reset of a tag, then of an object":    {rr(identity(ct.Symbol("Line3.Speed"), ct.Class(1), ct.Instance(1))), service},
		"28 bits of a tag as a close":               {rr(ct.Request(0x4e, ct.Join(ct.Symbol("Recipe"), ct.Manager()), []byte{4, 0}, ct.U16(9), ct.U16(0x1337), ct.U32(42), []byte{0, 0})), bad},
		"28 a close of a tag":                       {rr(ct.Request(0x4e, ct.Join(ct.Manager(), ct.Symbol("Recipe")), []byte{4, 0}, ct.U16(9), ct.U16(0x1337), ct.U32(42), []byte{0, 0})), bad},
		"28 a write of a tag as a read of a file":   {rr(ct.Request(0x4d, ct.Join(ct.Symbol("Recipe"), ct.Class(0x37), ct.Instance(1)), ct.U16(0xc4), ct.U16(1), ct.U32(1))), bad},
		"28 a packet to a tag":                      {rr(ct.Request(0x0a, ct.Join(ct.Symbol("Recipe"), ct.Router()), ct.Packet(read))), bad},
		"28 a write to two tags":                    {rr(ct.WriteDINT(ct.Join(ct.Symbol("Line3.Setpoint"), ct.Symbol("Recipe")), 1)), verdict.ReasonTagNotPermitted},
		"28 a write to a tag behind an instance":    {rr(ct.WriteDINT(ct.Join(ct.Class(0x6b), ct.Instance(1), ct.Symbol("Line3.Setpoint")), 1)), verdict.ReasonPathNotPermitted},
		"28 a write to a tag with an attribute":     {rr(ct.WriteDINT(ct.Join(ct.Symbol("Line3.Setpoint"), ct.Attribute(1)), 1)), bad},
		"28 a write to a bit of what may be set":    {rr(ct.WriteDINT(ct.Symbol("Line3.Setpoint.3"), 1)), verdict.ReasonTagNotPermitted},
		"28 a write beyond what may be set":         {rr(ct.WriteDINT(ct.Symbol("Line3.Setpoint"), 1, 1501)), verdict.ReasonValueNotPermitted},
		"28 a write of another type's great number": {rr(ct.Request(0x4d, ct.Symbol("Line3.Setpoint"), ct.U16(0xca), ct.U16(1), ct.U32(0x44bba001))), verdict.ReasonValueNotPermitted},
		"28 a write of a structure":                 {rr(ct.Request(0x4d, ct.Symbol("Line3.Setpoint"), ct.U16(0x2a0), ct.U16(1), ct.U16(1), ct.U32(1))), verdict.ReasonValueNotPermitted},
		"28 a write of a type that nobody knows":    {rr(ct.Request(0x4d, ct.Symbol("Line3.Setpoint"), ct.U16(0xff), ct.U16(1), ct.U32(1))), verdict.ReasonValueNotPermitted},
		"28 a short symbol of more than it has":     {rr(ct.Request(0x4d, []byte{0x7f, 'A', 'B', 'C'}, ct.U16(0xc4), ct.U16(1), ct.U32(1))), bad},
		"28 a symbol of more than the path has":     {rr(ct.Request(0x4d, []byte{0x91, 40, 'A', 'B'}, ct.U16(0xc4), ct.U16(1), ct.U32(1))), bad},

		// 29 to 31: connections and routes.
		"29 a null forward open with services":    {rr(ct.Join(ct.Open{Types: [2]byte{ct.Null, ct.Null}, Path: ct.Join(route, ct.Router())}.Forward(), reset)), bad},
		"29 a forward open as a large one":        {rr(lying(0, 0x5b, ct.Open{Path: ct.Join(route, ct.Router())}.Forward())), bad},
		"29 a large forward open as a small one":  {rr(lying(0, 0x54, ct.Open{Large: true, Path: ct.Join(route, ct.Router())}.Forward())), bad},
		"29 a connection to PCCC":                 {rr(ct.Open{Path: ct.Join(route, ct.Class(0x67), ct.Instance(1))}.Forward()), verdict.ReasonPathNotPermitted},
		"29 a connection to a DH+ link":           {rr(ct.Open{Path: ct.Join(route, ct.Class(0xa6), ct.Instance(1), ct.Point(1))}.Forward()), verdict.ReasonPathNotPermitted},
		"29 a connection to the router and more":  {rr(ct.Open{Path: ct.Join(route, ct.Router(), ct.Class(0x67), ct.Instance(1))}.Forward()), verdict.ReasonPathNotPermitted},
		"29 a connection to a tag":                {rr(ct.Open{Class: 1, Path: ct.Join(route, ct.Symbol("Recipe"))}.Forward()), verdict.ReasonPathNotPermitted},
		"29 a safety connection to the router":    {rr(ct.Open{Path: ct.Join(route, ct.Router(), []byte{0x50, 1, 0, 0})}.Forward()), verdict.ReasonPathNotPermitted},
		"30 a read by a hop in its path":          {rr(ct.ReadTag(ct.Join(ct.Port(1, 3), ct.Symbol("Line3.Speed")), 1)), verdict.ReasonRouteNotPermitted},
		"30 a hop in the path and one in the way": {rr(ct.Unconnected(ct.ReadTag(ct.Join(ct.Port(1, 3), ct.Symbol("Line3.Speed")), 1), route)), verdict.ReasonRouteNotPermitted},
		"30 a hop behind the tag":                 {rr(ct.ReadTag(ct.Join(ct.Symbol("Line3.Speed"), ct.Port(1, 0)), 1)), bad},
		"30 a port of 16 bits":                    {rr(ct.Unconnected(read, []byte{0x0f, 1, 1, 0})), verdict.ReasonRouteNotPermitted},
		"30 an address with a zero before":        {rr(ct.Unconnected(read, ct.PortText(1, "00"))), verdict.ReasonRouteNotPermitted},
		"30 a port without a link":                {rr(ct.Unconnected(read, []byte{0x11, 0})), bad},
		"31 PCCC in PCCC":                         {rr(ct.Request(0x4b, ct.Join(ct.Class(0x67), ct.Instance(1)), []byte{7, 0x4d, 0, 1, 2, 3, 4}, []byte{0x4f, 0, 1, 0, 0x80})), service},

		// 32: the encapsulation.
		"32 a length that is shorter than its items":  {lying(2, 20, rr(write)), bad},
		"32 a length that takes the next message in":  {lying(2, 60, ct.Join(rr(read), rr(reset))), bad},
		"32 SendRRData as a command of 16 bits":       {lying(1, 1, rr(write)), service},
		"32 registering with something behind":        {ct.Encapsulate(0x65, 0, 0, ct.Join([]byte{1, 0, 0, 0}, reset)), bad},
		"32 unregistering with something behind":      {ct.Encapsulate(0x66, enipHandle, 0, reset), bad},
		"32 unregistering another session":            {ct.Encapsulate(0x66, enipHandle+1, 0, nil), bad},
		"32 registering twice in a segment":           {ct.Join(ct.Register(0), ct.Register(0)), bad},
		"32 a status in a request":                    {lying(11, 1, rr(write)), bad},
		"32 options in the last byte":                 {lying(23, 0x80, rr(write)), bad},
		"32 an interface handle in the last byte":     {lying(27, 0x80, rr(write)), bad},
		"32 a time-out, which is lawful, and a reset": {lying(28, 9, rr(reset)), service},
	} {
		for _, onDeny := range []policy.OnDeny{policy.DenyReset, policy.DenyException} {
			d := newTarget(t, enipPlan(t, onDeny))
			before := len(d.got(stream.FromResponder))
			d.client(r.message)
			arrived := d.got(stream.FromResponder)[before:]
			if onDeny == policy.DenyReset {
				d.mustDeny(name, r.want)
				if len(arrived) != 0 {
					t.Errorf("%s: %d bytes have arrived", name, len(arrived))
				}
			}
			for _, denied := range [][]byte{reset, write} {
				if bytes.Contains(arrived, denied) {
					// Neutralised, it has another code before it, and is nobody's service.
					var edited bool
					d.work()
					for _, s := range d.executed {
						edited = edited || s[0] == 0x01
					}
					if onDeny == policy.DenyReset || !edited || d.ran(denied) {
						t.Errorf("%s, %v: %x has arrived", name, onDeny, denied)
					}
				}
			}
		}
		// Split at every byte: what has left never completes it.
		for at := 1; at < len(r.message); at++ {
			d := newTarget(t, enipPlan(t, policy.DenyReset))
			before := len(d.got(stream.FromResponder))
			d.client(r.message[:at])
			if !d.ended {
				d.client(r.message[at:])
			}
			if got := len(d.got(stream.FromResponder)) - before; got >= len(r.message) || !d.ended {
				t.Errorf("%s, split at %d: %d of %d bytes left, ended %v", name, at, got, len(r.message), d.ended)
				break
			}
		}
	}
}

// TestLawfulWaysOfStacks: what stacks in the field send that is as lawful as it looks strange is not denied.
func TestLawfulWaysOfStacks(t *testing.T) {
	route := ct.Port(1, 0)
	read := readSpeed()
	rules := append(slices.Clone(enipRules), `{services: [read_tag], tags: ["Program:Main.*", "Local:1:I.Data", "A[*,*,0-3]", "Odd"]}`)
	plan := enipPlan(t, policy.DenyReset, rules...)
	tag := func(path ...[]byte) []byte { return ct.ReadTag(ct.Join(path...), 1) }
	for name, service := range map[string][]byte{
		"a send of an odd message, padded":  ct.Unconnected(ct.Request(0x0e, ct.Join(ct.Class(1), ct.Instance(1), ct.Attribute(7)), []byte{0}), route),
		"a send with an empty route":        ct.Unconnected(read),
		"a program's tag":                   tag(ct.Symbol("Program:Main"), ct.Symbol("Count")),
		"a program's tag in one symbol":     tag(ct.Symbol("Program:MAIN.Count")),
		"a module's tag":                    tag(ct.Symbol("Local:1:I"), ct.Symbol("Data")),
		"three dimensions":                  tag(ct.Symbol("A"), ct.Member(1), ct.Logical(0x28, 2, 1), ct.Logical(0x28, 3, 2)),
		"a symbol of odd length":            tag(ct.Symbol("Odd")),
		"a key before a hop":                ct.Open{Path: ct.Join(ct.Key(), route, ct.Router())}.Forward(),
		"a key behind a hop":                ct.Open{Path: ct.Join(route, ct.Key(), ct.Router())}.Forward(),
		"an inhibit time":                   ct.Open{Class: 1, Size: 100, Path: ct.Join(route, ct.Key(), []byte{0x43, 10}, ct.Class(4), ct.Instance(151), ct.Point(150), ct.Point(100))}.Forward(),
		"assemblies as instances":           ct.Open{Class: 1, Size: 100, Path: ct.Join(route, ct.Class(4), ct.Instance(151), ct.Class(4), ct.Instance(150), ct.Class(4), ct.Instance(100))}.Forward(),
		"assemblies of 16 bits":             ct.Open{Class: 1, Size: 100, Path: ct.Join(route, ct.Logical(0x20, 4, 1), ct.Logical(0x24, 151, 1), ct.Logical(0x2c, 150, 1), ct.Logical(0x2c, 100, 1))}.Forward(),
		"a configuration":                   ct.Open{Class: 1, Size: 100, Path: ct.Join(route, ct.Class(4), ct.Instance(151), ct.Point(150), ct.Point(100), []byte{0x80, 2, 1, 2, 3, 4})}.Forward(),
		"input only, with a heartbeat":      ct.Open{Class: 1, Size: 2, Path: ct.Join(route, ct.Class(4), ct.Instance(151), ct.Point(150), ct.Point(100))}.Forward(),
		"a null forward open for I/O":       ct.Open{Class: 1, Types: [2]byte{ct.Null, ct.Null}, Path: ct.Join(route, ct.Class(4), ct.Instance(151), ct.Point(150), ct.Point(100))}.Forward(),
		"a redundant owner":                 ct.Open{Class: 1, Size: 100, Owner: true, Path: ct.Join(route, ct.Class(4), ct.Instance(151), ct.Point(150), ct.Point(100))}.Forward(),
		"a multicast direction":             ct.Open{Class: 1, Size: 100, Types: [2]byte{0, 1}, Path: ct.Join(route, ct.Class(4), ct.Instance(151), ct.Point(150), ct.Point(100))}.Forward(),
		"a close in a send":                 ct.Unconnected(ct.Close(1, ct.Router()), route),
		"one service in a packet":           ct.Multiple(read),
		"a write that comes with itself":    ct.Join(setpoint(5), ct.U16(3), setpoint(5)),
		"a write that is filled up":         ct.Request(0x4d, ct.Symbol("Line3.Setpoint"), ct.U16(0xc2), ct.U16(1), []byte{5, 0}),
		"many reads in a packet":            ct.Multiple(slices.Repeat([][]byte{read}, 60)...),
		"an attribute of an assembly":       ct.Request(0x0e, ct.Join(ct.Class(4), ct.Instance(100), ct.Attribute(3))),
		"the same, in 16 bits":              ct.Request(0x0e, ct.Join(ct.Logical(0x20, 4, 1), ct.Logical(0x24, 100, 1), ct.Logical(0x30, 3, 1))),
		"the same, the class in 8 bits":     ct.Request(0x0e, ct.Join(ct.Class(4), ct.Logical(0x24, 100, 1), ct.Attribute(3))),
		"the instance in 32 bits":           ct.Request(0x0e, ct.Join(ct.Class(4), ct.Logical(0x24, 100, 2), ct.Attribute(3))),
		"a fragmented read of great offset": ct.Request(0x52, ct.Symbol("Line3.Data"), ct.U16(900), ct.U32(2000)),
	} {
		d := newTarget(t, plan)
		for _, timeout := range []byte{0, 10} {
			message := ct.RR(enipHandle, 0, service) // contexts that repeat
			message[28] = timeout
			d.client(message)
			d.mustAllow(name)
			d.work()
			d.mustAllow("reply to " + name)
		}
		if !d.ran(service) {
			t.Errorf("%s has not arrived", name)
		}
	}

	t.Run("on a connection", func(t *testing.T) {
		d := newTarget(t, plan)
		id := d.openExplicit(1, route)
		for _, sequence := range []uint16{1, 1, 2, 65535, 0, 1} { // a repetition, and the count's end
			d.client(ct.Unit(enipHandle, id, sequence, read))
			d.mustAllow("a read")
			d.work()
			d.mustAllow("its reply")
		}
	})
	t.Run("replies out of order", func(t *testing.T) {
		d := newTarget(t, plan)
		d.silent = true
		for context := range uint64(3) {
			d.client(ct.RR(enipHandle, context, read))
			d.mustAllow("a read")
		}
		for _, context := range []uint64{2, 0, 1} {
			d.device(ct.RR(enipHandle, context, []byte{0xcc, 0, 0, 0, 0xc4, 0, 1, 0, 0, 0}))
			d.mustAllow("its reply")
		}
	})
	t.Run("errors", func(t *testing.T) {
		for name, reply := range map[string][]byte{
			"with more status":         ct.RR(enipHandle, 7, []byte{0xcc, 0, 0xff, 1, 5, 0x21}),
			"in a packet":              ct.RR(enipHandle, 7, append([]byte{0x8a, 0, 0x1e, 0}, ct.Packet([]byte{0xcc, 0, 5, 1, 0, 0}, []byte{0xcc, 0, 0, 0, 0xc1, 0, 1})...)),
			"of a packet as a whole":   ct.RR(enipHandle, 7, []byte{0x8a, 0, 8, 0}),
			"of the encapsulation":     failedReply(0x6f, 0x64),
			"of the way":               ct.RR(enipHandle, 7, []byte{0xd2, 0, 1, 1, 0x11, 3, 1}),
			"with a socket that works": ct.RR(enipHandle, 7, []byte{0xcc, 0, 8, 0}, ct.Item(0x8000, ct.Socket(2222, 198, 18, 0, 10))),
		} {
			d := newTarget(t, plan)
			d.silent = true
			service := read
			switch name {
			case "in a packet", "of a packet as a whole":
				service = ct.Multiple(read, read)
			case "of the way":
				service = ct.Unconnected(read, route)
			}
			d.rr(service)
			d.device(reply)
			d.mustAllow("an error " + name)
		}
	})
	t.Run("a device that shows that it is there", func(t *testing.T) {
		for _, named := range []bool{true, false} {
			list := enipRules
			if named {
				list = append(slices.Clone(enipRules), `{commands: [nop]}`)
			}
			d := newTarget(t, enipPlan(t, policy.DenyReset, list...))
			d.silent = true
			nop := ct.Encapsulate(0, 0, 0, []byte{1, 2, 3})
			d.rr(read)
			d.device(nop[:1], nop[1:])
			if d.last.Verdict.Allows() != named {
				t.Errorf("a rule names nop %v: %v", named, d.last.Verdict)
			}
			if !named {
				continue
			}
			d.device(ct.RR(enipHandle, 7, []byte{0xcc, 0, 0, 0, 0xc4, 0, 1, 0, 0, 0}))
			d.mustAllow("the reply behind it")
		}
	})
	t.Run("a session ends and another begins", func(t *testing.T) {
		d := newTarget(t, plan)
		d.client(ct.Encapsulate(0x66, enipHandle, 0, nil))
		d.mustAllow("unregistering")
		d.client(ct.Register(0))
		d.mustAllow("registering again")
		d.work()
		d.rr(read)
		d.mustAllow("a read in the second session")
	})
}

// failedReply is a reply of the encapsulation that reports an error.
func failedReply(command uint16, status byte) []byte {
	b := ct.Encapsulate(command, enipHandle, 7, nil)
	b[8] = status
	return b
}
