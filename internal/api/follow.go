package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/penstock-ot/penstock/internal/event"
)

// followBatch is how many events are written at once to a follower.
const followBatch = 64

// events writes the recent events, one JSON object a line, and with follow goes on until the
// client or the server goes. A follower that does not read loses events from the bus, and
// after writeTimeout its place.
func (h *handler) events(w http.ResponseWriter, r *http.Request) {
	since, sinceErr := uintParameter(r, "since", 0)
	limit, limitErr := uintParameter(r, "limit", 0)
	if err := errors.Join(sinceErr, limitErr); err != nil {
		write(w, nil, Refuse(CodeBadRequest, err))
		return
	}
	bus := h.backend.Events()
	if r.URL.Query().Get("follow") != "true" {
		_ = writeEvents(w, bus.Recent(since, int(min(limit, 1<<20)))) // whoever asked has gone, which is no matter
		return
	}
	select {
	case h.followers <- struct{}{}:
		defer func() { <-h.followers }()
	default:
		write(w, nil, Refuse(CodeBusy, fmt.Errorf("%d clients follow the events already, which is the limit: end one of them", maxFollowers)))
		return
	}
	if limit > 0 {
		// The limit is about what was before: begin in front of the last so many.
		if published := bus.Stats().Published; published > limit {
			since = max(since, published-limit)
		}
	}
	// The time for the request to arrive must not end the stream.
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		return
	}
	follow(w, r, bus.Subscribe(since))
}

func follow(w http.ResponseWriter, r *http.Request, s *event.Subscription) {
	defer s.Close()
	// An answer without events begins at once, so that the client knows that it is heard.
	if err := writeEvents(w, nil); err != nil {
		return
	}
	buf := make([]event.Event, followBatch)
	for {
		n, err := s.Next(r.Context(), buf)
		if err != nil {
			return
		}
		if err := writeEvents(w, buf[:n]); err != nil {
			return
		}
	}
}

// writeEvents writes events and sees them off to the client.
func writeEvents(w http.ResponseWriter, events []event.Event) error {
	controller := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	for len(events) > 0 {
		n := min(len(events), followBatch)
		if err := writeBatch(w, controller, events[:n]); err != nil {
			return err
		}
		events = events[n:]
	}
	if err := controller.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return controller.Flush()
}

func writeBatch(w http.ResponseWriter, controller *http.ResponseController, events []event.Event) error {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for _, e := range events {
		if err := encoder.Encode(e); err != nil {
			return fmt.Errorf("write event: %w", err)
		}
	}
	if err := controller.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := w.Write(lines.Bytes())
	return err
}
