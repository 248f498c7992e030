package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/identity"
	"github.com/penstock-ot/penstock/internal/outage"
)

const (
	dialTimeout   = 2 * time.Second
	answerTimeout = 20 * time.Second                // for a question
	applyTimeout  = changeTimeout + 2*answerTimeout // for a change
	maxAnswer     = 64 << 20                        // bytes of an answer that are read
	maxEventLine  = 1 << 20
)

// Client asks the daemon. It is safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

// UnreachableError says that no daemon answers, and what to do about it.
type UnreachableError struct {
	Socket string
	Err    error
}

// Error says what to do.
func (e *UnreachableError) Error() string {
	advice := "is penstockd running? Start it, or name its socket with --socket or PENSTOCK_SOCKET"
	if errors.Is(e.Err, fs.ErrPermission) {
		advice = "you may not use its socket: run this as root or as a member of the socket's group"
	}
	return fmt.Sprintf("reach penstockd at %s: %v: %s", e.Socket, plain(e.Err), advice)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// plain takes the wrappings off that name the made-up URL and the socket once more.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// NewClient returns a client of the daemon that listens on the socket. It does not connect yet.
func NewClient(socket string) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		// Connecting costs nothing here, and a connection that is used once is never found dead.
		DisableKeepAlives: true,
	}}}
}

// Status asks for the status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.ask(ctx, http.MethodGet, "/v1/status", nil, nil, &s)
	return s, err
}

// Inventory asks for the devices and conversations seen so far.
func (c *Client) Inventory(ctx context.Context) (identity.Snapshot, error) {
	var s identity.Snapshot
	err := c.ask(ctx, http.MethodGet, "/v1/inventory", nil, nil, &s)
	return s, err
}

// CloseZone closes a zone's conduits but the essential ones; 0 is until OpenZone.
func (c *Client) CloseZone(ctx context.Context, zone string, within time.Duration) (Island, error) {
	var i Island
	err := c.ask(ctx, http.MethodPost, "/v1/zones/"+url.PathEscape(zone)+"/close", url.Values{"for": {within.String()}}, nil, &i)
	return i, err
}

// OpenZone ends that.
func (c *Client) OpenZone(ctx context.Context, zone string) (Island, error) {
	var i Island
	err := c.ask(ctx, http.MethodPost, "/v1/zones/"+url.PathEscape(zone)+"/open", nil, nil, &i)
	return i, err
}

// Bypass asks where frames go.
func (c *Client) Bypass(ctx context.Context) (outage.Report, error) {
	var r outage.Report
	err := c.ask(ctx, http.MethodGet, "/v1/bypass", nil, nil, &r)
	return r, err
}

// EngageBypass leads frames past the appliance; why is for those who ask later.
func (c *Client) EngageBypass(ctx context.Context, why string) (outage.Report, error) {
	return c.turnBypass(ctx, "engage", why)
}

// ReleaseBypass leads frames through the appliance, once a self-test has passed.
func (c *Client) ReleaseBypass(ctx context.Context, why string) (outage.Report, error) {
	return c.turnBypass(ctx, "release", why)
}

func (c *Client) turnBypass(ctx context.Context, turn, why string) (outage.Report, error) {
	var r outage.Report
	err := c.ask(ctx, http.MethodPost, "/v1/bypass/"+turn, url.Values{"why": {why}}, nil, &r)
	return r, err
}

// SelfTest has the daemon pass frames through inspection, beside the line.
func (c *Client) SelfTest(ctx context.Context) error {
	var none struct{}
	return c.ask(ctx, http.MethodPost, "/v1/bypass/test", nil, nil, &none)
}

// RecordDrill hands the daemon what a test of the bypass on site found.
func (c *Client) RecordDrill(ctx context.Context, d outage.Drill) error {
	raw, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("write the result of a test of the bypass: %w", err)
	}
	var none struct{}
	return c.ask(ctx, http.MethodPost, "/v1/bypass/drill", nil, raw, &none)
}

// EventQuery chooses events.
type EventQuery struct {
	Since  uint64 // only events after this sequence
	Limit  int    // only the newest so many of those that are there already; 0 is all
	Follow bool   // go on with new ones
}

// Events calls fn for each event, oldest first. With Follow it returns only when the context is
// cancelled (with nil), fn fails (with fn's error) or the daemon goes (an *UnreachableError).
func (c *Client) Events(ctx context.Context, q EventQuery, fn func(event.Event) error) error {
	if q.Follow {
		err := c.readEvents(ctx, q, fn)
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return nil
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return c.readEvents(ctx, q, fn)
}

func (c *Client) readEvents(ctx context.Context, q EventQuery, fn func(event.Event) error) error {
	answer, err := c.send(ctx, http.MethodGet, "/v1/events", url.Values{
		"since":  {strconv.FormatUint(q.Since, 10)},
		"limit":  {strconv.Itoa(q.Limit)},
		"follow": {strconv.FormatBool(q.Follow)},
	}, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, maxEventLine)
	for lines.Scan() {
		var e event.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return &UnreachableError{Socket: c.socket, Err: err}
	}
	if q.Follow {
		return &UnreachableError{Socket: c.socket, Err: errors.New("it ended the stream of events")}
	}
	return nil
}

// Apply puts a policy in force. A policy that is wrong is an *Error with its Problems. Who it is
// recorded for is what the daemon's kernel says, so that s.Who is not sent.
func (c *Client) Apply(ctx context.Context, s Submission) (Applied, error) {
	parameters := url.Values{"name": {s.Name}}
	if s.ConfirmWithin > 0 {
		parameters.Set("confirm_within", s.ConfirmWithin.String())
	}
	var a Applied
	err := c.ask(ctx, http.MethodPost, "/v1/policy", parameters, s.Raw, &a)
	return a, err
}

// Confirm lets the policy in force stay.
func (c *Client) Confirm(ctx context.Context) (Applied, error) {
	var a Applied
	err := c.ask(ctx, http.MethodPost, "/v1/policy/confirm", nil, nil, &a)
	return a, err
}

// Rollback puts an earlier version in force, 0 is the previous one.
func (c *Client) Rollback(ctx context.Context, version uint64) (Applied, error) {
	parameters := url.Values{"to": {strconv.FormatUint(version, 10)}}
	var a Applied
	err := c.ask(ctx, http.MethodPost, "/v1/policy/rollback", parameters, nil, &a)
	return a, err
}

// Reload has the daemon read its policy file again.
func (c *Client) Reload(ctx context.Context) (Applied, error) {
	var a Applied
	err := c.ask(ctx, http.MethodPost, "/v1/reload", nil, nil, &a)
	return a, err
}

// History returns the newest versions first, at most limit; all where it is 0.
func (c *Client) History(ctx context.Context, limit int) ([]PolicyVersion, error) {
	var versions []PolicyVersion
	parameters := url.Values{"limit": {strconv.Itoa(limit)}}
	err := c.ask(ctx, http.MethodGet, "/v1/policy/history", parameters, nil, &versions)
	return versions, err
}

// Policy returns a version, 0 is the one in force.
func (c *Client) Policy(ctx context.Context, version uint64) (PolicyDocument, error) {
	path := "/v1/policy"
	if version != 0 {
		path = "/v1/policy/versions/" + strconv.FormatUint(version, 10)
	}
	var d PolicyDocument
	err := c.ask(ctx, http.MethodGet, path, nil, nil, &d)
	return d, err
}

// ask sends a request and reads the whole answer into value.
func (c *Client) ask(ctx context.Context, method, path string, parameters url.Values, body []byte, value any) error {
	timeout := answerTimeout
	if method == http.MethodPost {
		timeout = applyTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := c.send(ctx, method, path, parameters, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return &UnreachableError{Socket: c.socket, Err: err}
	}
	if err := json.Unmarshal(raw, value); err != nil {
		return fmt.Errorf("read the answer of penstockd: %w", err)
	}
	return nil
}

// send sends a request. The answer is a success; everything else has become an error.
func (c *Client) send(ctx context.Context, method, path string, parameters url.Values, body []byte) (*http.Response, error) {
	// The host is made up: the socket says where to.
	address := url.URL{Scheme: "http", Host: "penstock", Path: path, RawQuery: parameters.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, address.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask penstockd: %w", err)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, &UnreachableError{Socket: c.socket, Err: err}
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, &UnreachableError{Socket: c.socket, Err: err}
	}
	var e Error
	if json.Unmarshal(raw, &e) != nil || e.Code == "" {
		return nil, Refuse(CodeFailed, fmt.Errorf("penstockd answers %s to %s %s: is it of another version?", answer.Status, method, path))
	}
	return nil, &e
}
