package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/penstock-ot/penstock/internal/outage"
)

// handler answers requests out of a backend.
type handler struct {
	backend   Backend
	followers chan struct{} // a place for each follower
}

func newHandler(b Backend) http.Handler {
	h := &handler{backend: b, followers: make(chan struct{}, maxFollowers)}
	mux := http.NewServeMux()
	for pattern, answer := range map[string]func(*http.Request) (any, error){
		"GET /v1/status":              h.status,
		"GET /v1/inventory":           h.inventory,
		"GET /v1/policy":              h.policy,
		"GET /v1/policy/history":      h.history,
		"GET /v1/policy/versions/{n}": h.policy,
		"GET /v1/bypass":              h.bypass,
		"POST /v1/bypass/engage":      h.engage,
		"POST /v1/bypass/release":     h.release,
		"POST /v1/bypass/test":        h.selfTest,
		"POST /v1/bypass/drill":       h.recordDrill,
		"POST /v1/zones/{zone}/close": h.closeZone,
		"POST /v1/zones/{zone}/open":  h.openZone,
		"POST /v1/policy/confirm":     h.confirm,
		"POST /v1/policy/rollback":    h.rollback,
		"POST /v1/reload":             h.reload,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			value, err := answer(r)
			write(w, value, err)
		})
	}
	mux.HandleFunc("POST /v1/policy", h.apply)
	mux.HandleFunc("GET /v1/events", h.events)
	mux.HandleFunc("GET /v1/flows", h.flows)
	return bounded(mux)
}

// bounded gives each request a time to arrive in whole. A body that nobody asked for is
// bounded too, because the server reads it before the connection's next request.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
			write(w, nil, fmt.Errorf("bound the request: %w", err))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, MaxPolicyBytes)
		next.ServeHTTP(w, r)
	})
}

// write answers with the value, or with the error.
func write(w http.ResponseWriter, value any, err error) {
	status := http.StatusOK
	if err != nil {
		e := asError(err)
		value, status = e, e.Code.status()
	}
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, "write answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return // the connection is gone
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // whoever asked has gone, which is no matter
}

func (h *handler) status(r *http.Request) (any, error) {
	s, err := h.backend.Status(r.Context())
	return s.withoutNull(), err
}

func (h *handler) inventory(r *http.Request) (any, error) {
	return h.backend.Inventory(r.Context())
}

func (h *handler) history(r *http.Request) (any, error) {
	limit, err := uintParameter(r, "limit", 0)
	if err != nil {
		return nil, err
	}
	versions, err := h.backend.PolicyHistory(r.Context(), int(min(limit, 1<<20)))
	if versions == nil {
		versions = []PolicyVersion{}
	}
	return versions, err
}

func (h *handler) policy(r *http.Request) (any, error) {
	var version uint64
	if n := r.PathValue("n"); n != "" {
		var err error
		if version, err = parseUint("version", n); err != nil {
			return nil, err
		}
	}
	return h.backend.Policy(r.Context(), version)
}

func (h *handler) confirm(r *http.Request) (any, error) {
	return change(r, func(ctx context.Context, who string) (Applied, error) {
		return h.backend.ConfirmPolicy(ctx, who)
	})
}

func (h *handler) rollback(r *http.Request) (any, error) {
	version, err := uintParameter(r, "to", 0)
	if err != nil {
		return nil, err
	}
	return change(r, func(ctx context.Context, who string) (Applied, error) {
		return h.backend.RollbackPolicy(ctx, version, who)
	})
}

func (h *handler) bypass(r *http.Request) (any, error) { return h.backend.Bypass(r.Context()) }

func (h *handler) engage(r *http.Request) (any, error) {
	return change(r, func(ctx context.Context, who string) (outage.Report, error) {
		return h.backend.EngageBypass(ctx, who, r.URL.Query().Get("why"))
	})
}

func (h *handler) release(r *http.Request) (any, error) {
	return change(r, func(ctx context.Context, who string) (outage.Report, error) {
		return h.backend.ReleaseBypass(ctx, who, r.URL.Query().Get("why"))
	})
}

func (h *handler) selfTest(r *http.Request) (any, error) {
	return change(r, func(ctx context.Context, _ string) (struct{}, error) {
		return struct{}{}, h.backend.SelfTest(ctx)
	})
}

func (h *handler) recordDrill(r *http.Request) (any, error) {
	var d outage.Drill
	if err := json.NewDecoder(r.Body).Decode(&d); err != nil {
		return nil, Refuse(CodeBadRequest, fmt.Errorf("read the result of a test of the bypass: %w", err))
	}
	return change(r, func(ctx context.Context, who string) (struct{}, error) {
		return struct{}{}, h.backend.RecordDrill(ctx, d, who)
	})
}

func (h *handler) closeZone(r *http.Request) (any, error) {
	within, err := durationParameter(r, "for")
	if err != nil {
		return nil, err
	}
	return change(r, func(ctx context.Context, who string) (Island, error) {
		return h.backend.CloseZone(ctx, r.PathValue("zone"), who, within)
	})
}

func (h *handler) openZone(r *http.Request) (any, error) {
	return change(r, func(ctx context.Context, who string) (Island, error) {
		return h.backend.OpenZone(ctx, r.PathValue("zone"), who)
	})
}

func (h *handler) reload(r *http.Request) (any, error) {
	return change(r, func(ctx context.Context, who string) (Applied, error) {
		return h.backend.Reload(ctx, who)
	})
}

func (h *handler) apply(w http.ResponseWriter, r *http.Request) {
	within, err := durationParameter(r, "confirm_within")
	if err != nil {
		write(w, nil, err)
		return
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		write(w, nil, bodyError(err))
		return
	}
	applied, err := change(r, func(ctx context.Context, who string) (Applied, error) {
		return h.backend.ApplyPolicy(ctx, Submission{
			Name: r.URL.Query().Get("name"), Raw: raw, Who: who, ConfirmWithin: within,
		})
	})
	write(w, applied, err)
}

// change carries a change out in the peer's name. It is not given up when the peer goes.
func change[T any](r *http.Request, do func(ctx context.Context, who string) (T, error)) (T, error) {
	p, ok := peerFrom(r.Context())
	if !ok {
		var none T
		return none, Refuse(CodeFailed, errors.New("the kernel does not say who you are, and a change is recorded with a name"))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), changeTimeout)
	defer cancel()
	return do(ctx, p.who())
}

func bodyError(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return Refuse(CodeTooLarge, fmt.Errorf("the policy has more than %d bytes, which is the limit", large.Limit))
	}
	return Refuse(CodeBadRequest, fmt.Errorf("read the request's body: %w", err))
}

func uintParameter(r *http.Request, name string, absent uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return absent, nil
	}
	return parseUint(name, text)
}

func parseUint(name, text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, Refuse(CodeBadRequest, fmt.Errorf("%s %q is not a whole number from 0", name, text))
	}
	return n, nil
}

func durationParameter(r *http.Request, name string) (time.Duration, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, Refuse(CodeBadRequest, fmt.Errorf("%s %q is no duration, such as 10m", name, text))
	}
	return d, nil
}
