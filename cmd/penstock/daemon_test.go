package main

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/identity"
	failure "github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/store"
	"github.com/penstock-ot/penstock/internal/verdict"
)

type daemonKey struct{}

// daemon is a backend without a datapath: policies go into a real store, the status is fixed.
type daemon struct {
	bus    *event.Bus
	store  *store.Store
	server *api.Server
	status api.Status
	bypass failure.Report
}

// startDaemon starts the script's daemon: daemon, or daemon outage.
func startDaemon(ts *testscript.TestScript, _ bool, args []string) {
	d := ts.Value(daemonKey{}).(*daemon)
	s, err := store.Open(ts.MkAbs("state"))
	ts.Check(err)
	d.store, d.bus, d.status = s, event.NewBus(16), healthy()
	d.bypass = failure.Report{Driver: "none", State: failure.Inline}
	if len(args) > 0 && args[0] == "outage" {
		d.status = inOutage()
	}
	for _, e := range happened() {
		d.bus.Publish(e)
	}
	l, err := api.Listen(ts.Getenv(socketVariable))
	ts.Check(err)
	d.server = api.Serve(l, d, slog.New(slog.DiscardHandler))
	ts.Defer(func() { d.close() })
}

func endDaemon(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.Value(daemonKey{}).(*daemon).close())
}

func (d *daemon) close() error {
	if d.server == nil {
		return nil
	}
	err := errors.Join(d.server.Close(), d.store.Check(), d.store.Close())
	d.server = nil
	return err
}

func healthy() api.Status {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return api.Status{
		Name: "line-3-gate", Version: "v0.1.0", Started: at, Mode: "enforce",
		Policy: api.PolicyStatus{Version: 3, Hash: "0123456789abcdef", Site: "Filling line 3", Since: at},
		Ports:  []api.PortStatus{{Name: "pa", Side: "a", Link: "up", XDP: "native", LinkControl: 12, Undelivered: new(uint64)}, {Name: "pb", Side: "b", Link: "up", XDP: "native"}},
		Outage: api.OutageStatus{State: api.StateInspecting},
		Conduits: []api.ConduitStatus{
			{
				Name: "hmi-to-filler", Protocol: "modbus", Mode: "enforce", OnOutage: "open", State: api.StateInspecting, Allowed: 1200, Denied: 34,
				SLTarget: "3", Waiver: &api.WaiverStatus{Owner: "line manager", Expires: "2026-06-30", Compensating: "the cabinet is locked"},
			},
			{
				Name: "scada-to-pump", Protocol: "dnp3", Mode: "observe", OnOutage: "closed", State: api.StateAddressOnly, Allowed: 7,
				SLTarget: "iac 2, rdf 3", Essential: true, SecondPath: "by hand",
			},
		},
		Queues: []api.QueueStatus{{Number: 100, Packets: 1234, Dropped: 1, Depth: 2}, {Number: 101}},
		Events: api.EventStatus{Published: 3},
	}
}

func inOutage() api.Status {
	s := healthy()
	s.Policy.ConfirmBy = s.Started.Add(10 * time.Minute)
	s.Outage = api.OutageStatus{State: api.StateOpen, UninspectedFrames: 42, UninspectedSeconds: 1.5, Failures: []failure.Failure{
		{Class: failure.ReaderSilent, Active: true, Count: 2, Since: s.Started, Detail: "queue 101"},
		{Class: failure.RuleRemoved, Count: 1, Since: s.Started, Until: s.Started.Add(time.Second), Detail: "repaired"},
	}}
	s.Conduits[0].State, s.Conduits[1].State = api.StateOpen, api.StateClosed
	s.Events = api.EventStatus{Published: 3, Dropped: 9, Missed: 2}
	s.Warnings = []string{"running on the cached policy", "a name with \x1b[2J in it"}
	return s
}

func happened() []event.Event {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	return []event.Event{
		{Time: at, Mode: event.ModeEnforce, Verdict: verdict.Deny, Reason: verdict.ReasonFunctionNotPermitted,
			Conduit: "hmi-to-filler", Source: "hmi-1", Destination: "filler-plc",
			SourceAddress: "198.18.0.20:49152", DestinationAddress: "198.18.0.10:502",
			Protocol: "modbus", Operation: "write_multiple_registers", Detail: "unit 1 address 100-101", Policy: 3, Layer: event.LayerInspect},
		{Time: at, Mode: event.ModeObserve, Verdict: verdict.Deny, Reason: verdict.ReasonNoConduit,
			SourceAddress: "198.18.0.99", Protocol: "tcp", Detail: "\x1b]0;owned\x07", Policy: 3, Layer: event.LayerXDP, Count: 5},
		{Time: at, Mode: event.ModeEnforce, Verdict: verdict.Allow, Reason: verdict.ReasonPermitted, Conduit: "hmi-to-filler",
			Source: "hmi-1", Destination: "filler-plc", Protocol: "modbus", Operation: "read_coils", Policy: 3, Layer: event.LayerInspect},
	}
}

func seen() identity.Snapshot {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return identity.Snapshot{
		Assets: []identity.Asset{
			{MAC: "02:00:00:00:00:10", Side: "a", Identity: "filler-plc", Addresses: []string{"198.18.0.10"}, FirstSeen: at, LastSeen: at.Add(time.Minute),
				Claims: []identity.Claim{{Protocol: "modbus", Vendor: "Example", Product: "X1 \x1b[2J", Revision: "2.7", Seen: at}}},
			{MAC: "06:00:00:00:00:99", Side: "b", Addresses: []string{}, FirstSeen: at, LastSeen: at},
		},
		Conversations: []identity.Conversation{{
			Client: "hmi-1", Server: "filler-plc", ClientMAC: "02:00:00:00:00:20", ServerMAC: "02:00:00:00:00:10",
			ClientAddress: "198.18.0.20", ServerAddress: "198.18.0.10", Protocol: "tcp", Port: 502, Conduit: "hmi-to-filler",
			Frames: 1200, Bytes: 98000, FirstSeen: at, LastSeen: at.Add(time.Minute),
		}},
		LeftOut: 7,
	}
}

func alive() api.Flow {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return api.Flow{
		Source: "hmi-1", Destination: "filler-plc", SourceAddress: "198.18.0.20:49152", DestinationAddress: "198.18.0.10:502",
		SourceMAC: "02:00:00:00:00:20", DestinationMAC: "02:00:00:00:00:10", Side: "b", Protocol: "tcp", Conduit: "hmi-to-filler",
		Verdict: "inspect", Created: at, Seen: at.Add(time.Minute), FramesSent: 12, BytesSent: 800, FramesReceived: 11, BytesReceived: 790,
	}
}

func (d *daemon) Status(context.Context) (api.Status, error) { return d.status, nil }
func (d *daemon) Events() *event.Bus                         { return d.bus }

func (d *daemon) Inventory(context.Context) (identity.Snapshot, error) { return seen(), nil }

func (d *daemon) Flows(_ context.Context, fn func(*api.Flow) error) error {
	f := alive()
	return fn(&f)
}

func (d *daemon) Bypass(context.Context) (failure.Report, error) { return d.bypass, nil }

func (d *daemon) EngageBypass(_ context.Context, who, why string) (failure.Report, error) {
	d.bypass = failure.Report{Driver: "none", State: failure.Engaged, Standing: failure.Standing{Engaged: true, Why: why, Who: "root", Since: d.status.Started}}
	return d.bypass, nil
}

func (d *daemon) ReleaseBypass(_ context.Context, who, why string) (failure.Report, error) {
	d.bypass = failure.Report{Driver: "none", State: failure.Inline, Standing: failure.Standing{Why: why, Who: "root", Since: d.status.Started}}
	return d.bypass, nil
}

func (d *daemon) SelfTest(context.Context) error {
	if d.bypass.State == failure.Engaged {
		return api.Refuse(api.CodeFailed, errors.New("queue 100: a frame did not reach its verdict loop"))
	}
	return nil
}

func (d *daemon) RecordDrill(_ context.Context, drill failure.Drill, who string) error {
	drill.Who = "root"
	d.bypass.LastDrill = &drill
	return nil
}

func (d *daemon) CloseZone(_ context.Context, zone, who string, within time.Duration) (api.Island, error) {
	i := api.Island{Zone: zone, Who: "root", Since: d.status.Started}
	if within > 0 {
		i.Until = i.Since.Add(within)
	}
	return i, nil
}

func (d *daemon) OpenZone(_ context.Context, zone, who string) (api.Island, error) {
	if zone != "cell-3" {
		return api.Island{}, api.Refuse(api.CodeConflict, errors.New("the zone is not closed"))
	}
	return api.Island{Zone: zone, Who: "root", Since: d.status.Started}, nil
}

func (d *daemon) ApplyPolicy(_ context.Context, s api.Submission) (api.Applied, error) {
	p, err := policy.Parse(s.Name, s.Raw)
	if err != nil {
		return api.Applied{}, err
	}
	v, err := d.store.PutPolicy(store.Version{Site: p.Site, Name: s.Name, Who: s.Who}, s.Raw)
	if err != nil {
		return api.Applied{}, err
	}
	var confirmBy time.Time
	if s.ConfirmWithin > 0 {
		confirmBy = time.Now().Add(s.ConfirmWithin)
	}
	return d.activate(v.Number, s.Who, confirmBy)
}

func (d *daemon) activate(n uint64, who string, confirmBy time.Time) (api.Applied, error) {
	before, err := d.store.Activation()
	if err != nil {
		return api.Applied{}, err
	}
	a, err := d.store.Activate(n, who, confirmBy)
	if err != nil {
		return api.Applied{}, refusal(err)
	}
	v, _, err := d.store.Policy(n)
	return api.Applied{Version: n, Hash: v.Hash, Site: v.Site, Unchanged: before.Active == n, ConfirmBy: a.ConfirmBy, Previous: a.Previous}, err
}

func refusal(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return api.Refuse(api.CodeNotFound, err)
	case errors.Is(err, store.ErrNoPending), errors.Is(err, store.ErrNoEarlier):
		return api.Refuse(api.CodeConflict, err)
	}
	return err
}

func (d *daemon) ConfirmPolicy(context.Context, string) (api.Applied, error) {
	a, err := d.store.Confirm()
	if err != nil {
		return api.Applied{}, refusal(err)
	}
	v, _, err := d.store.Policy(a.Active)
	return api.Applied{Version: a.Active, Hash: v.Hash, Site: v.Site}, err
}

func (d *daemon) RollbackPolicy(_ context.Context, n uint64, who string) (api.Applied, error) {
	if n == 0 {
		a, err := d.store.Activation()
		if err != nil {
			return api.Applied{}, err
		}
		if n = a.Previous; n == 0 {
			return api.Applied{}, refusal(store.ErrNoEarlier)
		}
	}
	return d.activate(n, who, time.Time{})
}

func (d *daemon) Reload(context.Context, string) (api.Applied, error) {
	return api.Applied{}, errors.New("no command asks for this")
}

func (d *daemon) PolicyHistory(_ context.Context, limit int) ([]api.PolicyVersion, error) {
	versions, err := d.store.History(limit)
	if err != nil {
		return nil, err
	}
	a, err := d.store.Activation()
	var list []api.PolicyVersion
	for _, v := range versions {
		list = append(list, described(v, a))
	}
	return list, err
}

func (d *daemon) Policy(_ context.Context, n uint64) (api.PolicyDocument, error) {
	a, err := d.store.Activation()
	if err != nil {
		return api.PolicyDocument{}, err
	}
	if n == 0 {
		n = a.Active
	}
	v, raw, err := d.store.Policy(n)
	if err != nil {
		return api.PolicyDocument{}, refusal(err)
	}
	return api.PolicyDocument{PolicyVersion: described(v, a), Text: string(raw)}, nil
}

func described(v store.Version, a store.Activation) api.PolicyVersion {
	state := api.VersionStored
	switch {
	case v.Number == a.Active && a.Pending():
		state = api.VersionPending
	case v.Number == a.Active:
		state = api.VersionActive
	case v.Number == a.Previous:
		state = api.VersionPrevious
	}
	return api.PolicyVersion{Version: v.Number, Hash: v.Hash, Site: v.Site, Name: v.Name, Time: v.Time, Who: v.Who, Size: v.Size, State: state}
}

// capture writes a pcap file of one Modbus connection from 198.18.0.20 to 198.18.0.10: a
// request to read and its reply, then, with the word denied, a request to write.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: capture FILE [denied]")
	}
	client, server := netip.MustParseAddrPort("198.18.0.20:49152"), netip.MustParseAddrPort("198.18.0.10:502")
	request := []byte{0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1}
	reply := []byte{0, 1, 0, 0, 0, 5, 1, 3, 2, 0, 7}
	write := []byte{0, 2, 0, 0, 0, 6, 1, 6, 0, 100, 0, 1}
	const syn, ack, push = 2, 16, 24
	segments := []frame.TCPPacket{
		{Src: client, Dst: server, Seq: 100, Flags: syn},
		{Src: server, Dst: client, Seq: 500, Ack: 101, Flags: syn | ack},
		{Src: client, Dst: server, Seq: 101, Ack: 501, Flags: push, Payload: request},
		{Src: server, Dst: client, Seq: 501, Ack: 113, Flags: push, Payload: reply},
	}
	if len(args) > 1 {
		segments = append(segments, frame.TCPPacket{Src: client, Dst: server, Seq: 113, Ack: 512, Flags: push, Payload: write})
	}
	file := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	file = append(file, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0)
	for i := range segments {
		segments[i].Window = 1000
		file = appendRecord(ts, file, uint32(i), &segments[i])
	}
	ts.Check(os.WriteFile(filepath.Clean(ts.MkAbs(args[0])), file, 0o600))
}

// appendRecord appends a pcap record whose frame carries the segment, in microsecond n of 2026.
func appendRecord(ts *testscript.TestScript, file []byte, n uint32, p *frame.TCPPacket) []byte {
	ip, err := frame.AppendTCP(nil, p)
	ts.Check(err)
	hmi, plc := [6]byte{2, 0, 0, 0, 0, 0x20}, [6]byte{2, 0, 0, 0, 0, 0x10}
	data := frame.PrependEthernet(plc, hmi, nil, frame.EtherTypeIPv4, ip)
	if p.Src.Port() == 502 {
		data = frame.PrependEthernet(hmi, plc, nil, frame.EtherTypeIPv4, ip)
	}
	file = binary.LittleEndian.AppendUint32(file, uint32(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix()))
	for _, v := range []uint32{n, uint32(len(data)), uint32(len(data))} {
		file = binary.LittleEndian.AppendUint32(file, v)
	}
	return append(file, data...)
}
