package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/identity"
	"github.com/penstock-ot/penstock/internal/outage"
)

// The bounds on clients.
const (
	// MaxPolicyBytes is the largest policy that is taken.
	MaxPolicyBytes = 4 << 20

	maxConnections = 64
	maxFollowers   = 16
	maxHeaderBytes = 16 << 10

	readTimeout   = 10 * time.Second // for a whole request
	idleTimeout   = time.Minute
	writeTimeout  = 10 * time.Second // for an answer, and for each piece of a followed stream
	changeTimeout = time.Minute      // for the daemon to carry a change out
	closeTimeout  = 2 * time.Second
)

// Backend is the daemon as the API sees it. Its methods are called from many goroutines at
// once. An *Error or a policy.ErrorList chooses the answer; any other error is CodeFailed.
//
// The contexts of the methods that change something do not end with the client's connection:
// a change that was begun is finished or undone, whoever waits for it.
type Backend interface {
	Status(ctx context.Context) (Status, error)
	Events() *event.Bus
	// Inventory returns the devices and conversations seen so far.
	Inventory(ctx context.Context) (identity.Snapshot, error)
	// Flows calls fn with each live flow until it fails. CodeFailed where they cannot be read.
	Flows(ctx context.Context, fn func(*Flow) error) error

	// ApplyPolicy checks the policy, puts it in force and stores it; or changes nothing.
	ApplyPolicy(ctx context.Context, s Submission) (Applied, error)
	// ConfirmPolicy lets the policy in force stay. CodeConflict where none waits for that.
	ConfirmPolicy(ctx context.Context, who string) (Applied, error)
	// RollbackPolicy puts an earlier version in force, 0 is the previous one. CodeNotFound
	// where there is no such version, CodeConflict where there is nothing to go back to.
	RollbackPolicy(ctx context.Context, version uint64, who string) (Applied, error)
	// Reload applies the policy file that the settings name.
	Reload(ctx context.Context, who string) (Applied, error)

	// CloseZone closes every conduit of a zone but the essential ones, until OpenZone or, where within
	// is not 0, until that is over. CodeConflict where the policy in force cannot.
	CloseZone(ctx context.Context, zone, who string, within time.Duration) (Island, error)
	// OpenZone ends that. CodeConflict where the zone is not closed.
	OpenZone(ctx context.Context, zone, who string) (Island, error)

	// Bypass tells where frames go, and where they are meant to.
	Bypass(ctx context.Context) (outage.Report, error)
	// EngageBypass leads frames past the appliance.
	EngageBypass(ctx context.Context, who, why string) (outage.Report, error)
	// ReleaseBypass leads them through it, once a self-test has passed.
	ReleaseBypass(ctx context.Context, who, why string) (outage.Report, error)
	// SelfTest passes frames through inspection beside the line; its error says what went wrong.
	SelfTest(ctx context.Context) error
	// RecordDrill keeps what a test on site found. CodeBadRequest where it is no record.
	RecordDrill(ctx context.Context, d outage.Drill, who string) error

	// PolicyHistory returns the newest versions first, at most limit; all where it is 0.
	PolicyHistory(ctx context.Context, limit int) ([]PolicyVersion, error)
	// Policy returns a version, 0 is the one in force. CodeNotFound where there is none.
	Policy(ctx context.Context, version uint64) (PolicyDocument, error)
}

// Server answers on one socket.
type Server struct {
	http     *http.Server
	listener net.Listener
	end      context.CancelFunc
	ended    chan error
}

// Serve begins to answer on the listener (see Listen), which the server then owns, and returns
// at once. Close ends it.
func Serve(l *net.UnixListener, b Backend, log *slog.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		listener: netutil.LimitListener(identifying{l}, maxConnections),
		end:      cancel,
		ended:    make(chan error, 1),
	}
	s.http = &http.Server{
		Handler: newHandler(b),
		// Not ReadTimeout: net/http takes its end for that of the client, and a stream that is
		// followed would end with it. The handler bounds bodies itself.
		ReadHeaderTimeout: readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withPeer,
	}
	go func() { s.ended <- s.http.Serve(s.listener) }()
	return s
}

// Close stops answering: followers are let go at once, other requests get a moment to finish.
// The socket is removed. A second Close is harmless.
func (s *Server) Close() error {
	s.end()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		if err := s.http.Close(); err != nil {
			return fmt.Errorf("close the local socket: %w", err)
		}
	}
	return nil
}

// Wait returns once the server answers no more: nil after Close, otherwise why.
func (s *Server) Wait() error {
	err := <-s.ended
	s.ended <- err
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("answer on the local socket: %w", err)
}
