package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/identity"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// fake is a backend that records what is asked of it and answers with what it was given.
type fake struct {
	inventory identity.Snapshot
	flows     []Flow

	bus *event.Bus

	mu      sync.Mutex
	status  Status
	err     error
	asked   []string
	hold    chan struct{} // if not nil, ApplyPolicy sends to it and then receives from it
	outcome error         // of the context of ApplyPolicy, after that
}

func (f *fake) record(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
	return f.err
}

func (f *fake) Status(context.Context) (Status, error) { return f.status, f.record("status") }
func (f *fake) Events() *event.Bus                     { return f.bus }

func (f *fake) Inventory(context.Context) (identity.Snapshot, error) {
	return f.inventory, f.record("inventory")
}

func (f *fake) Flows(_ context.Context, fn func(*Flow) error) error {
	for i := range f.flows {
		if err := fn(&f.flows[i]); err != nil {
			return err
		}
	}
	return f.record("flows")
}

func (f *fake) Bypass(context.Context) (outage.Report, error) {
	return outage.Report{State: outage.Inline}, f.record("bypass")
}

func (f *fake) EngageBypass(_ context.Context, who, why string) (outage.Report, error) {
	return outage.Report{State: outage.Engaged}, f.record("engage by %s: %s", who, why)
}

func (f *fake) ReleaseBypass(_ context.Context, who, why string) (outage.Report, error) {
	return outage.Report{State: outage.Inline}, f.record("release by %s: %s", who, why)
}

func (f *fake) SelfTest(context.Context) error { return f.record("test") }

func (f *fake) RecordDrill(_ context.Context, d outage.Drill, who string) error {
	return f.record("drill of %d steps by %s", len(d.Steps), who)
}

func (f *fake) CloseZone(_ context.Context, zone, who string, within time.Duration) (Island, error) {
	return Island{Zone: zone, Who: who}, f.record("close %s by %s for %v", zone, who, within)
}

func (f *fake) OpenZone(_ context.Context, zone, who string) (Island, error) {
	return Island{Zone: zone, Who: who}, f.record("open %s by %s", zone, who)
}

func (f *fake) ApplyPolicy(ctx context.Context, s Submission) (Applied, error) {
	if f.hold != nil {
		f.hold <- struct{}{}
		<-f.hold
		f.mu.Lock()
		f.outcome = ctx.Err()
		f.mu.Unlock()
	}
	err := f.record("apply %s %q by %s within %s", s.Name, s.Raw, s.Who, s.ConfirmWithin)
	return Applied{Version: 4, Hash: "abc", Site: "Filling line 3", Previous: 3}, err
}

func (f *fake) ConfirmPolicy(_ context.Context, who string) (Applied, error) {
	return Applied{Version: 4}, f.record("confirm by %s", who)
}

func (f *fake) RollbackPolicy(_ context.Context, version uint64, who string) (Applied, error) {
	return Applied{Version: version}, f.record("rollback %d by %s", version, who)
}

func (f *fake) Reload(_ context.Context, who string) (Applied, error) {
	return Applied{Version: 4, Unchanged: true}, f.record("reload by %s", who)
}

func (f *fake) PolicyHistory(_ context.Context, limit int) ([]PolicyVersion, error) {
	return []PolicyVersion{{Version: 4, State: VersionActive}, {Version: 3, State: VersionPrevious}}, f.record("history %d", limit)
}

func (f *fake) Policy(_ context.Context, version uint64) (PolicyDocument, error) {
	return PolicyDocument{PolicyVersion: PolicyVersion{Version: version}, Text: "site: Ä\n"}, f.record("policy %d", version)
}

func (f *fake) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

// serve starts a server for the test and returns its socket.
func serve(t *testing.T, b Backend) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "penstock.sock")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(l, b, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), s.Close(), s.Wait(), s.Wait()); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return socket
}

func newFake() *fake { return &fake{bus: event.NewBus(1000)} }

func publish(b *event.Bus, n int) {
	for range n {
		b.Publish(event.Event{Mode: event.ModeEnforce, Verdict: verdict.Deny, Reason: verdict.ReasonNoConduit, Layer: event.LayerXDP})
	}
}

func TestQuestionsAndChanges(t *testing.T) {
	f := newFake()
	c := NewClient(serve(t, f))
	me := peer{uid: uint32(os.Getuid())}.who()
	ctx := t.Context()
	tests := []struct {
		name  string
		ask   func() (any, error)
		want  any
		asked string
	}{
		{"status", func() (any, error) { return c.Status(ctx) },
			Status{Outage: OutageStatus{Failures: []outage.Failure{}}, Ports: []PortStatus{}, Islands: []Island{}, Conduits: []ConduitStatus{}, Queues: []QueueStatus{}, Warnings: []string{}}, "status"},
		{"apply", func() (any, error) {
			return c.Apply(ctx, Submission{Name: "a b.yaml", Raw: []byte("x: 1\n"), Who: "somebody else", ConfirmWithin: 90 * time.Second})
		}, Applied{Version: 4, Hash: "abc", Site: "Filling line 3", Previous: 3}, "apply a b.yaml \"x: 1\\n\" by " + me + " within 1m30s"},
		{"apply for good", func() (any, error) { return c.Apply(ctx, Submission{Name: "p", Raw: []byte{}}) },
			Applied{Version: 4, Hash: "abc", Site: "Filling line 3", Previous: 3}, `apply p "" by ` + me + " within 0s"},
		{"confirm", func() (any, error) { return c.Confirm(ctx) }, Applied{Version: 4}, "confirm by " + me},
		{"rollback", func() (any, error) { return c.Rollback(ctx, 0) }, Applied{}, "rollback 0 by " + me},
		{"rollback to one", func() (any, error) { return c.Rollback(ctx, 7) }, Applied{Version: 7}, "rollback 7 by " + me},
		{"the bypass", func() (any, error) { return c.Bypass(ctx) }, outage.Report{State: outage.Inline}, "bypass"},
		{"engage it", func() (any, error) { return c.EngageBypass(ctx, "work & rest") }, outage.Report{State: outage.Engaged}, "engage by " + me + ": work & rest"},
		{"release it", func() (any, error) { return c.ReleaseBypass(ctx, "done") }, outage.Report{State: outage.Inline}, "release by " + me + ": done"},
		{"test it", func() (any, error) { return struct{}{}, c.SelfTest(ctx) }, struct{}{}, "test"},
		{"record a test of it", func() (any, error) {
			return struct{}{}, c.RecordDrill(ctx, outage.Drill{Steps: make([]outage.DrillStep, 2)})
		}, struct{}{}, "drill of 2 steps by " + me},
		{"close a zone", func() (any, error) { return c.CloseZone(ctx, "cell-3", time.Minute) }, Island{Zone: "cell-3", Who: me}, "close cell-3 by " + me + " for 1m0s"},
		{"open a zone", func() (any, error) { return c.OpenZone(ctx, "cell-3") }, Island{Zone: "cell-3", Who: me}, "open cell-3 by " + me},
		{"reload", func() (any, error) { return c.Reload(ctx) }, Applied{Version: 4, Unchanged: true}, "reload by " + me},
		{"history", func() (any, error) { return c.History(ctx, 5) },
			[]PolicyVersion{{Version: 4, State: VersionActive}, {Version: 3, State: VersionPrevious}}, "history 5"},
		{"the policy in force", func() (any, error) { return c.Policy(ctx, 0) }, PolicyDocument{Text: "site: Ä\n"}, "policy 0"},
		{"a version", func() (any, error) { return c.Policy(ctx, 3) }, PolicyDocument{PolicyVersion: PolicyVersion{Version: 3}, Text: "site: Ä\n"}, "policy 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.ask()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if log := f.log(); log[len(log)-1] != tt.asked {
				t.Errorf("asked for %q, want %q", log[len(log)-1], tt.asked)
			}
		})
	}
}

func TestStatusKeysAreExact(t *testing.T) {
	lost := uint64(7)
	raw, err := json.Marshal(Status{
		Ports: []PortStatus{{}, {Undelivered: &lost}}, Conduits: []ConduitStatus{{}}, Queues: []QueueStatus{{}}, Warnings: []string{},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"","version":"","pid":0,"netns":"","started":"0001-01-01T00:00:00Z","mode":"","policy":{"version":0,"hash":""},` +
		`"ports":[{"name":"","side":"","link":"","xdp":"","link_control":0},{"name":"","side":"","link":"","xdp":"","link_control":0,"undelivered":7}],` +
		`"outage":{"state":"","uninspected_frames":0,"uninspected_seconds":0,"failures":null},"islands":null,` +
		`"conduits":[{"name":"","protocol":"","mode":"","on_outage":"","state":"","allowed":0,"denied":0,"sl_target":"","essential":false}],` +
		`"queues":[{"number":0,"packets":0,"dropped":0,"depth":0}],"io":{"open":0,"refused":0},` +
		`"events":{"published":0,"dropped":0,"missed":0},"warnings":[]}`
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Error(diff)
	}
}

func TestErrorsReachTheClient(t *testing.T) {
	list := policy.ErrorList{
		{File: "p.yaml", Line: 3, Column: 7, Message: "no such zone"},
		{File: "p.yaml", Line: 9, Column: 1, Message: "no such key"},
	}
	tests := []struct {
		name string
		err  error
		want Error
	}{
		{"a wrong policy", fmt.Errorf("apply: %w", list), Error{CodePolicyWrong, "the policy is wrong", []Problem{
			{"p.yaml", 3, 7, "no such zone"}, {"p.yaml", 9, 1, "no such key"}}}},
		{"nothing to go back to", fmt.Errorf("x: %w", Refuse(CodeConflict, errors.New("nothing"))), Error{Code: CodeConflict, Message: "nothing"}},
		{"no such version", Refuse(CodeNotFound, errors.New("no version 9")), Error{Code: CodeNotFound, Message: "no version 9"}},
		{"anything else", syscall.ENOSPC, Error{Code: CodeFailed, Message: "no space left on device"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			f.err = tt.err
			_, err := NewClient(serve(t, f)).Apply(t.Context(), Submission{})
			var got *Error
			if !errors.As(err, &got) {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Error(diff)
			}
		})
	}
	e := asError(list)
	if e.Error() != "p.yaml:3:7: no such zone\np.yaml:9:1: no such key" {
		t.Errorf("got %q", e)
	}
}

// request sends a request as another program would, and returns the status and the body.
func request(t *testing.T, socket, method, path string, body io.Reader) (int, string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", socket)
	}}}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://penstock"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(raw)
}

func TestBadRequests(t *testing.T) {
	tests := []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"no such path", "GET", "/v2/status", "", 404, ""},
		{"the wrong method", "POST", "/v1/status", "", 405, ""},
		{"a version that is no number", "GET", "/v1/policy/versions/x", "", 400, "not a whole number"},
		{"a negative version", "POST", "/v1/policy/rollback?to=-1", "", 400, "not a whole number"},
		{"a limit that is no number", "GET", "/v1/policy/history?limit=x", "", 400, "not a whole number"},
		{"events since a word", "GET", "/v1/events?since=x", "", 400, "not a whole number"},
		{"events at a word", "GET", "/v1/events?limit=x", "", 400, "not a whole number"},
		{"a window that is no duration", "POST", "/v1/policy?confirm_within=10", "", 400, "no duration"},
		{"a negative window", "POST", "/v1/policy?confirm_within=-1s", "", 400, "no duration"},
		{"a drill that is no object", "POST", "/v1/bypass/drill", "x", 400, "result of a test"},
		{"a policy that is too large", "POST", "/v1/policy", strings.Repeat("x", MaxPolicyBytes+1), 413, "4194304 bytes"},
	}
	f := newFake()
	socket := serve(t, f)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, body := request(t, socket, tt.method, tt.path, strings.NewReader(tt.body))
			if status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %s", status, body)
			}
		})
	}
	if log := f.log(); len(log) != 0 {
		t.Errorf("the backend was asked for %v", log)
	}
	if status, _ := request(t, socket, "POST", "/v1/policy", strings.NewReader(strings.Repeat("x", MaxPolicyBytes))); status != 200 {
		t.Errorf("the largest policy: %d", status)
	}
}

func TestChangeOutlivesItsClient(t *testing.T) {
	f := newFake()
	f.hold = make(chan struct{})
	socket := serve(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, err := NewClient(socket).Apply(ctx, Submission{Name: "p"})
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) {
			t.Errorf("got %v", err)
		}
	}()
	<-f.hold
	cancel()
	<-gone
	// Another client is answered meanwhile.
	if _, err := NewClient(socket).Status(t.Context()); err != nil {
		t.Error(err)
	}
	// Time for the server to see that the client has gone.
	time.Sleep(50 * time.Millisecond)
	close(f.hold)
	waitFor(t, "the change", func() bool { log := f.log(); return strings.HasPrefix(log[len(log)-1], "apply p") })
	if f.outcome != nil {
		t.Errorf("the change ended with its client: %v", f.outcome)
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	abandon(t, stale)
	for _, socket := range []string{filepath.Join(dir, "none"), stale} {
		_, err := NewClient(socket).Status(t.Context())
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "is penstockd running?") || !strings.Contains(err.Error(), socket) {
			t.Errorf("got %v", err)
		}
		if strings.Count(err.Error(), socket) != 1 || strings.Contains(err.Error(), "http://") {
			t.Errorf("%q says too much", err)
		}
	}
	denied := &UnreachableError{Socket: "/s", Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}}
	if got := denied.Error(); got != "reach penstockd at /s: connect: permission denied: you may not use its socket: run this as root or as a member of the socket's group" {
		t.Errorf("got %q", got)
	}
}
