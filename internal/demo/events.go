package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// ask runs the penstock command as a person does, and returns what it prints.
func (l *line) ask(args ...string) ([]byte, error) {
	cmd := exec.Command(l.penstock, append([]string{"--socket", l.Socket()}, args...)...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("penstock %v: %w: %s", args, err, bytes.TrimSpace(exit.Stderr))
	}
	return out, err
}

// eventsSince returns the events after a sequence number, oldest first.
func (l *line) eventsSince(sequence uint64) ([]event.Event, error) {
	out, err := l.ask("events", "--json", "--since", strconv.FormatUint(sequence, 10))
	if err != nil {
		return nil, err
	}
	var list []event.Event
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var e event.Event
		err := d.Decode(&e)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read what penstock events printed: %w", err)
		}
		list = append(list, e)
	}
}

// awaitEvent waits for the first event after a sequence number that matches. Later steps look
// only behind it.
func (l *line) awaitEvent(since uint64, match func(*event.Event) bool) (event.Event, error) {
	var found event.Event
	err := testnet.WaitFor("an event of it", eventTimeout, func() (bool, error) {
		events, err := l.eventsSince(since)
		for i := range events {
			l.lastEvent = max(l.lastEvent, events[i].Sequence)
			if found.Sequence == 0 && match(&events[i]) {
				found = events[i]
			}
		}
		return found.Sequence != 0, err
	})
	return found, err
}

// status asks for the appliance's status.
func (l *line) status() (api.Status, error) {
	var s api.Status
	out, err := l.ask("status", "--json")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("read what penstock status printed: %w", err)
	}
	return s, nil
}
