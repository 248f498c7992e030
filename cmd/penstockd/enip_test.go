package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// logixTags is a conduit that permits what the example's hmi-tags does, and what clients need that send
// their requests by Unconnected Send.
func logixTags(onDeny string) string {
	return `name: tags
from: [hmi-1]
to: [filler-plc]
protocol: enip
on_deny: ` + onDeny + `
rules:
  - {services: [get_attributes_all, get_attribute_single], classes: [identity]}
  - {services: [read_tag, read_tag_fragmented], tags: ["Line3.*", Speed, Setpoint]}
  - {services: [write_tag], tags: [Line3.Setpoint, Setpoint], values: [0-1500]}
  - {services: [unconnected_send, forward_open, large_forward_open, forward_close], route: ["1/0"]}`
}

// logixServer serves tags at the filler, and returns what tells of the writes that reach it.
func logixServer(t *testing.T, p *plant.Plant) *testnet.Process {
	t.Helper()
	proc, err := p.Lab.Start(p.Filler, logixBinary, "serve")
	if err != nil {
		t.Fatal(err)
	}
	if err := testnet.WaitListening(p.Filler, "tcp", 44818, patience); err != nil {
		t.Fatalf("%v\n%s", err, proc.Output())
	}
	return proc
}

// wrote waits until a server has told of so many writes, and fails the test if it tells of others.
func wrote(t *testing.T, server *testnet.Process, want int) {
	t.Helper()
	count := func() int { return strings.Count(server.Output(), "wrote") }
	eventually(t, "the server to tell of a write", func() bool { return count() >= want })
	if got := count(); got != want {
		t.Errorf("%d writes reached the server, want %d\n%s", got, want, server.Output())
	}
}

// steps runs a client at the HMI and returns what became of each step.
func steps(t *testing.T, p *plant.Plant, client []string, list ...string) map[string]string {
	t.Helper()
	proc, err := p.Lab.Start(p.HMI, client[0], append(append(client[1:], p.Filler.Address().String()), list...)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Wait(60 * time.Second); err != nil {
		t.Fatalf("%s: %v\n%s", client, err, proc.Output())
	}
	results := map[string]string{}
	for _, line := range strings.Split(proc.Output(), "\n") {
		for _, step := range list {
			if got, ok := strings.CutPrefix(line, step+": "); ok {
				results[step] = got
			}
		}
	}
	t.Logf("%s\n%s", strings.Join(client, " "), proc.Output())
	return results
}

func wantSteps(t *testing.T, got, want map[string]string) {
	t.Helper()
	for step, result := range want {
		if refusal, refused := strings.CutPrefix(result, "refused"); refused {
			if !strings.Contains(got[step], "error") || !strings.Contains(strings.ToLower(got[step]), strings.TrimSpace(refusal)) {
				t.Errorf("%s: %q, want it to be refused (%s)", step, got[step], refusal)
			}
			continue
		}
		if got[step] != result {
			t.Errorf("%s: %q, want %q", step, got[step], result)
		}
	}
}

// TestInvariant01CIPPrivilegeViolationToGologix: with the example policy, a third party's client and server.
// What is permitted works, what is not is refused with status 0x0F, on one connection throughout.
func TestInvariant01CIPPrivilegeViolationToGologix(t *testing.T) {
	p := lay(t, plant.Options{})
	server := logixServer(t, p)
	got := steps(t, p, []string{logixBinary, "client"},
		"connect", "read Line3.Speed", "read Recipe", "write Line3.Setpoint=5", "write Line3.Speed=6", "write Recipe=7",
		"multi Line3.Speed,Line3.Setpoint", "multi Line3.Speed,Recipe", "service 05/20012401", "attribute 1/1/7",
		"read Line3.Setpoint", "disconnect")
	// Of a refused read this client tells only that the reply is too short, as it does of its own server's
	// errors; it writes names in lower case, which to a controller is the same.
	const refused = "refused 0xf "
	wantSteps(t, got, map[string]string{
		"connect": "done", "read Line3.Speed": "12", "read Recipe": "refused", "write Line3.Setpoint=5": "done",
		"write Line3.Speed=6": "refused", "write Recipe=7": "refused", "multi Line3.Speed,Line3.Setpoint": "12 5",
		"multi Line3.Speed,Recipe": "refused", "service 05/20012401": refused, "read Line3.Setpoint": "5", "disconnect": "done",
	})
	wrote(t, server, 1)
	for operation, reason := range map[string]verdict.Reason{
		"read_tag": verdict.ReasonTagNotPermitted, "write_tag": verdict.ReasonTagNotPermitted,
		"multiple_service_packet": verdict.ReasonTagNotPermitted, "reset": verdict.ReasonServiceNotPermitted,
	} {
		if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
			return e.Operation == operation && e.Reason == reason && e.Protocol == "cip" && e.Conduit == "hmi-tags"
		}); err != nil {
			t.Errorf("%s: %v", operation, err)
		}
	}
	if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
		return e.Operation == "write_tag" && e.Reason == verdict.ReasonPermitted && e.Detail == "tag line3.setpoint by route 1/0"
	}); err != nil {
		t.Error(err)
	}
}

// TestInvariant01CIPResetOfGologix: the same with resets. What was denied never arrives.
func TestInvariant01CIPResetOfGologix(t *testing.T) {
	p := lay(t, plant.Options{Policy: site{conduits: []string{logixTags("reset")}}.String()})
	server := logixServer(t, p)
	for _, denied := range []string{"write Recipe=7", "write Line3.Setpoint=1501", "read Recipe", "multi Line3.Speed,Recipe", "service 06/20012401"} {
		got := steps(t, p, []string{logixBinary, "client"}, "connect", "read Line3.Speed", denied)
		wantSteps(t, got, map[string]string{"connect": "done", "read Line3.Speed": "12", denied: "refused"})
	}
	if strings.Contains(server.Output(), "wrote") {
		t.Errorf("a write reached the server:\n%s", server.Output())
	}
}

// TestInvariant01CIPRefusalToNode: two clients for Node, one that connects and one that sends each request
// by Unconnected Send.
func TestInvariant01CIPRefusalToNode(t *testing.T) {
	testnet.RequireNet(t)
	modules := filepath.Join(testnet.InstallNode(t, "st-ethernet-ip@2.7.5", "ethernet-ip@1.2.5"), "node_modules")
	p := lay(t, plant.Options{Policy: site{conduits: []string{logixTags("exception")}}.String()})
	server := logixServer(t, p)
	script, err := filepath.Abs("testdata/logix.js")
	if err != nil {
		t.Fatal(err)
	}
	for i, library := range []string{"st-ethernet-ip", "ethernet-ip"} {
		t.Run(library, func(t *testing.T) {
			write := []string{"write Setpoint=7", "write Setpoint=8"}[i]
			got := steps(t, p, []string{"env", "NODE_PATH=" + modules, "node", script, library},
				"connect", "read Speed", "read Recipe", write, "write Setpoint=1501", "write Recipe=4", "read Setpoint")
			wantSteps(t, got, map[string]string{
				"connect": "done", "read Speed": "12", "read Recipe": "refused", write: "done", "write Setpoint=1501": "refused",
				"write Recipe=4": "refused", "read Setpoint": strings.TrimPrefix(write, "write Setpoint="),
			})
			wrote(t, server, i+1)
		})
	}
}

// TestEvasion25To31_OnTheLine sends crafted requests through the appliance over a plain socket: the server
// never hears of the denied write in them, and the connection ends.
func TestEvasion25To31_OnTheLine(t *testing.T) {
	p := lay(t, plant.Options{Policy: site{conduits: []string{logixTags("reset")}}.String()})
	server := logixServer(t, p)
	recipe := ct.WriteDINT(ct.Symbol("Recipe"), 9)
	speed := ct.ReadTag(ct.Symbol("Speed"), 1)
	route := ct.Port(1, 0)
	for name, build := range map[string]func(session uint32) [][]byte{
		"25 one byte a segment": func(s uint32) [][]byte {
			var list [][]byte
			for _, b := range ct.RR(s, 1, ct.Unconnected(recipe, route)) {
				list = append(list, []byte{b})
			}
			return list
		},
		"26 in an unconnected send": func(s uint32) [][]byte { return [][]byte{ct.RR(s, 1, ct.Unconnected(recipe, route))} },
		"26 in a packet in an unconnected send": func(s uint32) [][]byte {
			return [][]byte{ct.RR(s, 1, ct.Unconnected(ct.Multiple(speed, recipe), route))}
		},
		"27 a second data item": func(s uint32) [][]byte {
			return [][]byte{ct.RR(s, 1, ct.Unconnected(speed, route), ct.Item(0xb2, ct.Unconnected(recipe, route)))}
		},
		"27 data before the address": func(s uint32) [][]byte {
			return [][]byte{ct.Encapsulate(0x6f, s, 1, ct.Items(ct.Item(0xb2, ct.Unconnected(speed, route)), ct.Item(0, nil)))}
		},
		"28 a short symbol": func(s uint32) [][]byte {
			return [][]byte{ct.RR(s, 1, ct.Unconnected(ct.WriteDINT(ct.ShortSymbol("recipe"), 9), route))}
		},
		"29 a connection that is not open": func(s uint32) [][]byte { return [][]byte{ct.Unit(s, 77, 1, recipe)} },
		"30 another slot":                  func(s uint32) [][]byte { return [][]byte{ct.RR(s, 1, ct.Unconnected(speed, ct.Port(1, 1)))} },
		"31 a fragmented write": func(s uint32) [][]byte {
			b := ct.Request(0x53, ct.Symbol("Setpoint"), ct.U16(0xc4), ct.U16(1), ct.U32(0), ct.U32(1501))
			return [][]byte{ct.RR(s, 1, ct.Unconnected(b, route))}
		},
		"32 a nop":           func(s uint32) [][]byte { return [][]byte{ct.Encapsulate(0, 0, 1, ct.RR(s, 1, recipe))} },
		"32 another session": func(s uint32) [][]byte { return [][]byte{ct.RR(s^1, 1, ct.Unconnected(speed, route))} },
	} {
		t.Run(name, func(t *testing.T) {
			conn := socketTo(t, p.HMI, p.Filler, 44818)
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(ct.Register(0)); err != nil {
				t.Fatal(err)
			}
			reply := make([]byte, 28)
			if _, err := io.ReadFull(conn, reply); err != nil {
				t.Fatal(err)
			}
			session := uint32(reply[4]) | uint32(reply[5])<<8 | uint32(reply[6])<<16 | uint32(reply[7])<<24
			for _, segment := range build(session) {
				if _, err := conn.Write(segment); err != nil {
					break // ended already
				}
				time.Sleep(time.Millisecond)
			}
			if n, err := conn.Read(make([]byte, 512)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%d bytes, %v: the connection goes on", n, err)
			}
		})
	}
	if strings.Contains(server.Output(), "wrote") {
		t.Errorf("a write reached the server:\n%s", server.Output())
	}
}
