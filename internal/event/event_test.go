package event

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ot/penstock/internal/verdict"
)

func full() Event {
	return Event{
		Sequence: 7, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		Mode: ModeEnforce, Verdict: verdict.Deny, Reason: verdict.ReasonFunctionNotPermitted,
		Conduit: "hmi-to-filler", Source: "hmi-1", Destination: "filler-plc",
		SourceAddress: "198.18.0.20:49152", DestinationAddress: "198.18.0.10:502",
		Protocol: "modbus", Operation: "write_multiple_registers", Detail: "unit 1 address 100-101",
		Policy: 3, Layer: LayerInspect,
		SourceMAC: "02:00:00:00:00:20", DestinationMAC: "02:00:00:00:00:10", VLAN: 10, Count: 2, Missed: 5,
	}
}

func TestJSONIsExact(t *testing.T) {
	tests := []struct {
		name  string
		event Event
		want  string
	}{
		{"everything known", full(),
			`{"time":"2026-01-02T03:04:05.000006Z","mode":"enforce","verdict":"deny","reason":"function_not_permitted",` +
				`"conduit":"hmi-to-filler","source":"hmi-1","destination":"filler-plc",` +
				`"source_address":"198.18.0.20:49152","destination_address":"198.18.0.10:502",` +
				`"protocol":"modbus","operation":"write_multiple_registers","detail":"unit 1 address 100-101",` +
				`"policy":3,"layer":"inspect","sequence":7,"source_mac":"02:00:00:00:00:20",` +
				`"destination_mac":"02:00:00:00:00:10","vlan":10,"count":2,"missed":5}`},
		{"nothing known is a denial between unknowns", Event{Time: time.Unix(0, 0), Layer: LayerXDP},
			`{"time":"1970-01-01T00:00:00.000000Z","mode":"","verdict":"deny","reason":"none","conduit":"",` +
				`"source":"unknown","destination":"unknown","source_address":"","destination_address":"",` +
				`"protocol":"","operation":"","detail":"","policy":0,"layer":"xdp","count":1}`},
		{"undecided is not allow", Event{Time: time.Unix(0, 0), Verdict: verdict.Undecided},
			`"verdict":"deny"`},
		{"inspect is not allow", Event{Time: time.Unix(0, 0), Verdict: verdict.Inspect},
			`"verdict":"deny"`},
		{"local time is written in UTC", Event{Time: time.Date(2026, 7, 1, 2, 0, 0, 999, time.FixedZone("x", 7200))},
			`"time":"2026-07-01T00:00:00.000000Z"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := json.Marshal(tt.event)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(got), tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestJSONRoundTrip(t *testing.T) {
	want := full()
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Event
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	good, err := json.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, old, new, want string }{
		{"a time that is none", "2026-01-02", "2026-13-02", "read event time"},
		{"an unknown verdict", `"deny"`, `"perhaps"`, "neither allow nor deny"},
		{"an unknown reason", "function_not_permitted", "mood", "mood"},
		{"a key of another type", `"policy":3`, `"policy":"3"`, "read event"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var e Event
			err := json.Unmarshal([]byte(strings.Replace(string(good), tt.old, tt.new, 1)), &e)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}
