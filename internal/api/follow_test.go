package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ot/penstock/internal/event"
)

func TestRecentEvents(t *testing.T) {
	f := newFake()
	publish(f.bus, 200)
	c := NewClient(serve(t, f))
	tests := []struct {
		name        string
		query       EventQuery
		first, last uint64 // 0: none
	}{
		{"all", EventQuery{}, 1, 200},
		{"since", EventQuery{Since: 150}, 151, 200},
		{"the newest", EventQuery{Limit: 10}, 191, 200},
		{"the newest since", EventQuery{Since: 195, Limit: 10}, 196, 200},
		{"none", EventQuery{Since: 200}, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got, want []uint64
			err := c.Events(t.Context(), tt.query, func(e event.Event) error {
				got = append(got, e.Sequence)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for n := tt.first; n > 0 && n <= tt.last; n++ {
				want = append(want, n)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

var errEnough = errors.New("enough")

// follow reads events until fn has seen the sequence last.
func followUntil(ctx context.Context, c *Client, q EventQuery, last uint64) (read []uint64, err error) {
	q.Follow = true
	err = c.Events(ctx, q, func(e event.Event) error {
		read = append(read, e.Sequence)
		if e.Sequence == last {
			return errEnough
		}
		return nil
	})
	return read, err
}

func TestFollow(t *testing.T) {
	f := newFake()
	publish(f.bus, 3)
	c := NewClient(serve(t, f))
	tests := []struct {
		name  string
		query EventQuery
		more  int
		want  int // how many are read
	}{
		{"from the beginning", EventQuery{}, 2, 5},
		{"from the newest", EventQuery{Limit: 1}, 2, 3},
		{"from a sequence", EventQuery{Since: 6}, 2, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			last := f.bus.Stats().Published + uint64(tt.more)
			go func() {
				for f.bus.Stats().Readers == 0 {
					time.Sleep(time.Millisecond)
				}
				publish(f.bus, tt.more)
			}()
			read, err := followUntil(t.Context(), c, tt.query, last)
			if !errors.Is(err, errEnough) || len(read) != tt.want {
				t.Errorf("read %v, %v; want %d", read, err, tt.want)
			}
			waitFor(t, "the follower's place to be free", func() bool { return f.bus.Stats().Readers == 0 })
		})
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	f := newFake()
	c := NewClient(serve(t, f))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := followUntil(ctx, c, EventQuery{}, 0)
		ended <- err
	}()
	waitFor(t, "the follower", func() bool { return f.bus.Stats().Readers == 1 })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v", err)
	}
	waitFor(t, "the follower's place to be free", func() bool { return f.bus.Stats().Readers == 0 })
}

func TestFollowEndsWithTheServer(t *testing.T) {
	f := newFake()
	l, err := Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(l, f, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() {
		_, err := followUntil(t.Context(), NewClient(l.Addr().String()), EventQuery{}, 0)
		ended <- err
	}()
	waitFor(t, "the follower", func() bool { return f.bus.Stats().Readers == 1 })
	if err := errors.Join(s.Close(), s.Wait()); err != nil {
		t.Error(err)
	}
	var unreachable *UnreachableError
	if err := <-ended; !errors.As(err, &unreachable) {
		t.Errorf("got %v", err)
	}
}

// TestFollowersThatDoNotReadHoldNothing fills every place with clients that never read, and
// floods the bus: publishing goes on, questions are answered, and one follower more is refused
// with a reason. On a machine that is busy with other things publishing takes longer to a bus that
// nobody follows, too.
func TestFollowersThatDoNotReadHoldNothing(t *testing.T) {
	f := newFake()
	socket := serve(t, f)
	for range maxFollowers {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /v1/events?follow=true HTTP/1.1\r\nHost: penstock\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the followers", func() bool { return f.bus.Stats().Readers == maxFollowers })
	c := NewClient(socket)
	refused := func(when string) {
		_, err := followUntil(t.Context(), c, EventQuery{}, 0)
		var busy *Error
		if !errors.As(err, &busy) || busy.Code != CodeBusy {
			t.Errorf("one follower more %s: %v", when, err)
		}
	}
	refused("before the flood")
	var took, alone time.Duration
	unfollowed := newFake().bus
	for range 200 {
		began := time.Now()
		publish(f.bus, 1000)
		between := time.Now()
		publish(unfollowed, 1000)
		took, alone = took+between.Sub(began), alone+time.Since(between)
	}
	if took > max(5*time.Second, 10*alone) {
		t.Errorf("publishing took %s, and %s where nobody follows", took, alone)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	// A machine so busy that the flood took as long as a follower may leave a piece unread has
	// given up its followers by now, and their places are free.
	if f.bus.Stats().Readers == maxFollowers {
		refused("after the flood")
	}
}

// TestConnectionsAreBounded holds every connection open without a word. The next client waits,
// the daemon does not, and places come free when their holders go.
func TestConnectionsAreBounded(t *testing.T) {
	f := newFake()
	socket := serve(t, f)
	var held []net.Conn
	for range maxConnections {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := NewClient(socket).Status(ctx); err == nil {
		t.Error("a connection too many is answered")
	}
	for _, c := range held {
		c.Close()
	}
	if _, err := NewClient(socket).Status(t.Context()); err != nil {
		t.Error(fmt.Errorf("after they have gone: %w", err))
	}
}
