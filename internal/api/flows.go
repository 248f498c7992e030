package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// Flow is one live flow of the fast path.
type Flow struct {
	Source             string `json:"source"` // who began it; "unknown" where the policy has no name
	Destination        string `json:"destination"`
	SourceAddress      string `json:"source_address"`
	DestinationAddress string `json:"destination_address"`
	SourceMAC          string `json:"source_mac"`
	DestinationMAC     string `json:"destination_mac"`
	// Side is where it was begun, a or b.
	Side     string   `json:"side"`
	Protocol string   `json:"protocol"`
	VLANs    []uint16 `json:"vlans,omitempty"`
	Conduit  string   `json:"conduit"`
	// Verdict is what becomes of its frames: allow, deny or inspect.
	Verdict  string    `json:"verdict"`
	Observed bool      `json:"observed,omitempty"` // forwarded whatever the verdict
	Adopted  bool      `json:"adopted,omitempty"`  // begun before the appliance saw it
	Created  time.Time `json:"created"`
	Seen     time.Time `json:"seen"`
	// By direction: from who began it, and back.
	FramesSent     uint64 `json:"frames_sent"`
	BytesSent      uint64 `json:"bytes_sent"`
	FramesReceived uint64 `json:"frames_received"`
	BytesReceived  uint64 `json:"bytes_received"`
}

// flowBatch is how many flows are written between two looks at whether the client still reads.
const flowBatch = 512

// flows writes the live flows, one JSON object a line. A client that does not read loses its place
// after writeTimeout; nothing of the line waits for it.
func (h *handler) flows(w http.ResponseWriter, r *http.Request) {
	controller := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines, written := json.NewEncoder(w), 0
	err := h.backend.Flows(r.Context(), func(f *Flow) error {
		if written%flowBatch == 0 {
			if err := controller.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
				return err
			}
		}
		written++
		return lines.Encode(f)
	})
	switch {
	case err == nil:
	case written == 0:
		write(w, nil, err)
	default:
		// The answer has begun as a good one: breaking it off is the only way to say that it is not.
		panic(http.ErrAbortHandler)
	}
}

// Flows calls fn for each live flow.
func (c *Client) Flows(ctx context.Context, fn func(Flow) error) error {
	answer, err := c.send(ctx, http.MethodGet, "/v1/flows", url.Values{}, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		var f Flow
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return err
		}
		if err := fn(f); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return &UnreachableError{Socket: c.socket, Err: errors.Join(errors.New("it broke the list of flows off"), err)}
	}
	return nil
}
