package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// base is a small policy without errors. Its lines are counted in the rows below, so new things
// are added at its end.
const base = `api_version: penstock/v1
site: test
mode: enforce
appliances:
  - name: gate
    sides: {a: [cell], b: [room]}
defaults:
  on_outage: open
zones:
  - {name: room, sl_target: 2}
  - {name: cell, sl_target: 2}
identities:
  - name: hmi
    zone: room
    mac: 02:00:00:00:00:20
    ip: [198.18.0.20]
  - name: plc
    zone: cell
    mac: 02:00:00:00:00:10
    ip: [198.18.0.10]
  - name: router
    zone: room
    role: router
    mac: 02:00:00:00:00:01
    ip: [198.18.0.1]
  - name: far
    zone: room
    via: router
    ip: [198.18.64.0/18]
conduits:
  - name: speak
    from: [hmi]
    to: [plc]
    protocol: modbus
    rules:
      - functions: [read]
        units: [1]
  - name: web
    from: [far]
    to: [plc]
    protocol: tcp
    ports: [443]
`

func mustParse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatalf("parse:\n%v", err)
	}
	return p
}

func TestBaseHasNoErrors(t *testing.T) { mustParse(t, base) }

func TestExampleFile(t *testing.T) {
	p, err := ParseFile("../../configs/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Hash) != 64 || p.Site != "Filling line 3" || len(p.Conduits) != 6 {
		t.Errorf("read %q, %d conduits, hash %q", p.Site, len(p.Conduits), p.Hash)
	}
	if _, err := p.Compile("line-3-gate"); err != nil {
		t.Error(err)
	}
}

// edit replaces the first occurrence of each old text by the new one.
func edit(t testing.TB, text string, changes ...string) string {
	t.Helper()
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("the policy does not hold %q", changes[i])
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	return text
}

type badRow struct {
	name    string
	changes []string // old, new …
	want    []string // without the file's name
}

func TestBadInput(t *testing.T) {
	for _, row := range badRows() {
		t.Run(row.name, func(t *testing.T) {
			text := edit(t, base, row.changes...)
			_, err := Parse("p.yaml", []byte(text))
			got := messages(err)
			if strings.Join(got, "\n") != strings.Join(row.want, "\n") {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(row.want, "\n\t"))
			}
		})
	}
}

func messages(err error) []string {
	var list ErrorList
	errors.As(err, &list)
	var out []string
	for _, e := range list {
		out = append(out, strings.TrimPrefix(e.Error(), "p.yaml:"))
	}
	return out
}

// TestErrorsName holds what programs rely on: the list, each error, and its parts.
func TestErrorsName(t *testing.T) {
	_, err := Parse("line.yaml", []byte("api_version: x\nmode: y\n"))
	var list ErrorList
	if !errors.As(err, &list) || len(list) != 4 {
		t.Fatalf("got %v", err)
	}
	var one *Error
	if !errors.As(err, &one) || one.File != "line.yaml" || one.Line != 1 || one.Column != 1 {
		t.Errorf("first error is %+v", one)
	}
	if got := strings.Count(err.Error(), "\n"); got != 3 {
		t.Errorf("%d line breaks in:\n%v", got, err)
	}
}

func TestBoundsOfAFile(t *testing.T) {
	long := "api_version: penstock/v1\nmode: enforce\nappliances: [{name: g, sides: {a: [x], b: [y]}}]\nzones: [{name: x}, {name: y}]\n"
	rows := []struct{ name, text, want string }{
		{"too large", strings.Repeat("#", maxFile+1), "p.yaml:1:1: the file has more than 4 MiB, which is the limit"},
		{"empty", "", "p.yaml:1:1: the file is empty: a policy begins with api_version: penstock/v1"},
		{"only a comment", "# nothing\n", "p.yaml:1:1: the file is empty: a policy begins with api_version: penstock/v1"},
		{"a single value", "7", "p.yaml:1:1: the policy must be a mapping of keys to values, not a single value"},
		{"too many zones", "zones: [" + strings.Repeat("{}, ", maxZones+1) + "]", "zones has 4097 elements, and the limit is 4096"},
		{"a bomb of aliases", long + bomb(), "aliases are not used in a policy"},
		{"nesting without end", strings.Repeat("[", 100000), "not YAML: exceeded max depth"},
		{"one address for all", long + "identities: [" + everyoneAt("10.0.0.1", 16000) + "]", "more than 1000 errors: mend those before this one first"},
		{"errors without end", long + "identities: [" + strings.Repeat("7, ", 5000) + "]", "more than 1000 errors: mend those before this one first"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := Parse("p.yaml", []byte(row.text))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %.300v, want %s", err, row.want)
			}
		})
	}
}

// everyoneAt lists identities that all own one address.
func everyoneAt(address string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{name: i%d, zone: x, mac: \"02:00:00:00:%02x:%02x\", ip: [%s]}, ", i, i>>8, i&255, address)
	}
	return b.String()
}

// bomb would be a billion elements if anybody expanded it.
func bomb() string {
	text := "boom:\n- &a0 x\n"
	for i := range 9 {
		text += fmt.Sprintf("- &a%d [%s]\n", i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 10))
	}
	return text + "site: *a9\n"
}

func TestDefaultsHoldWhereNothingIsSaid(t *testing.T) {
	p := mustParse(t, edit(t, base, "defaults:\n  on_outage: open\n", ""))
	if p.Defaults != builtinDefaults() || p.Conduits[0].OnOutage != OutageClosed || p.Conduits[0].OnDeny != DenyReset {
		t.Errorf("defaults %+v, conduit %+v", p.Defaults, p.Conduits[0])
	}
}

func TestJoiningIsTheConduitsOwnOrTheDefault(t *testing.T) {
	for _, row := range []struct {
		defaults, conduit string
		want              OnJoin
	}{
		{"", "", JoinResync},
		{"reset", "", JoinReset},
		{"reset", "resync", JoinResync},
		{"resync", "reset", JoinReset},
	} {
		text := base
		if row.defaults != "" {
			text = edit(t, text, "defaults:\n", "defaults:\n  on_join: "+row.defaults+"\n")
		}
		if row.conduit != "" {
			text = edit(t, text, "protocol: modbus", "protocol: modbus\n    on_join: "+row.conduit)
		}
		p := mustParse(t, text)
		plan, err := p.Compile(p.Appliances[0].Name)
		if err != nil {
			t.Fatal(err)
		}
		if got := plan.Conduits[1].OnJoin; p.Conduits[0].OnJoin != row.want || got != row.want {
			t.Errorf("defaults %q, conduit %q: read as %v, compiled to %v, want %v", row.defaults, row.conduit, p.Conduits[0].OnJoin, got, row.want)
		}
	}
}

func TestConduitMode(t *testing.T) {
	rows := []struct {
		name, policy, conduit string
		want                  Mode
	}{
		{"the policy's", "enforce", "", Enforce},
		{"its own, lower", "enforce", "observe", Observe},
		{"its own, higher", "observe", "enforce", Observe},
		{"discover is the ceiling", "discover", "enforce", Discover},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			text := edit(t, base, "mode: enforce", "mode: "+row.policy)
			if row.conduit != "" {
				text = edit(t, text, "protocol: modbus", "protocol: modbus\n    mode: "+row.conduit)
			}
			if got := mustParse(t, text).Conduits[0].Mode; got != row.want {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}

// TestExpiredWaiver: what opens in an outage by a waiver is refused when that is over, and what does not need
// one is not.
func TestExpiredWaiver(t *testing.T) {
	with := func(keys string) *Policy {
		return mustParse(t, edit(t, base, "    protocol: tcp", keys+"    waiver: {owner: ada, expires: 2027-01-31, compensating: guard}\n    protocol: tcp"))
	}
	last := time.Date(2027, 1, 31, 23, 59, 59, 0, time.UTC)
	after := last.Add(time.Second)
	opens := with("    sl_target: 3\n    on_outage: open\n")
	if err := opens.CheckWaivers(last); err != nil {
		t.Errorf("on the last day: %v", err)
	}
	const want = "conduit \"web\" has a target of SL 3 and opens in an outage by a waiver that expired on 2027-01-31"
	if err := opens.CheckWaivers(after); err == nil || !strings.Contains(err.Error(), ":42:5: "+want) {
		t.Errorf("a day later: %v", err)
	}
	for _, keys := range []string{"    sl_target: 3\n    on_outage: closed\n", "    sl_target: 2\n    on_outage: open\n"} {
		if err := with(keys).CheckWaivers(after); err != nil {
			t.Errorf("%q: %v", keys, err)
		}
	}
}
