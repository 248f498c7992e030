package event

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock-ot/penstock/internal/verdict"
)

func publish(b *Bus, n int) {
	for range n {
		b.Publish(Event{Verdict: verdict.Deny, Reason: verdict.ReasonNoConduit})
	}
}

func sequences(events []Event) []uint64 {
	var s []uint64
	for _, e := range events {
		s = append(s, e.Sequence)
	}
	return s
}

func count(first, last uint64) []uint64 {
	var s []uint64
	for ; first <= last; first++ {
		s = append(s, first)
	}
	return s
}

func TestRecent(t *testing.T) {
	tests := []struct {
		name      string
		published int
		since     uint64
		limit     int
		want      []uint64
	}{
		{"an empty bus", 0, 0, 0, nil},
		{"fewer than it holds", 3, 0, 0, count(1, 3)},
		{"exactly what it holds", 100, 0, 0, count(1, 100)},
		{"the oldest are gone", 250, 0, 0, count(151, 250)},
		{"since one of them", 250, 248, 0, count(249, 250)},
		{"since one that is gone", 250, 20, 0, count(151, 250)},
		{"since the newest", 250, 250, 0, nil},
		{"since the future", 250, Latest - 1, 0, nil},
		{"a limit keeps the newest", 250, 0, 5, count(246, 250)},
		{"a limit above what is held", 3, 0, 5, count(1, 3)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBus(100)
			publish(b, tt.published)
			if diff := cmp.Diff(tt.want, sequences(b.Recent(tt.since, tt.limit))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSubscribeStartsWhereAsked(t *testing.T) {
	tests := []struct {
		name  string
		since uint64
		want  uint64 // first sequence read, after one more event is published
	}{
		{"from the oldest held", 0, 11},
		{"from one that is gone", 5, 11},
		{"just before the oldest held", 10, 11},
		{"from the middle", 15, 16},
		{"from the newest", 20, 21},
		{"from the next one", Latest, 21},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBus(10)
			publish(b, 20)
			s := b.Subscribe(tt.since)
			defer s.Close()
			// An event pushes 11 out only for readers that start there.
			buf := make([]Event, 1)
			if tt.want == 21 {
				publish(b, 1)
			}
			if _, err := s.Next(t.Context(), buf); err != nil {
				t.Fatal(err)
			}
			if buf[0].Sequence != tt.want || buf[0].Missed != 0 {
				t.Errorf("read %d after %d missed, want %d", buf[0].Sequence, buf[0].Missed, tt.want)
			}
		})
	}
}

func TestSlowReaderLosesTheOldestAndIsTold(t *testing.T) {
	b := NewBus(10)
	s := b.Subscribe(0)
	defer s.Close()
	publish(b, 25)
	buf := make([]Event, 64)
	n, err := s.Next(t.Context(), buf)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(count(16, 25), sequences(buf[:n])); diff != "" {
		t.Error(diff)
	}
	if buf[0].Missed != 15 || buf[1].Missed != 0 || s.Missed() != 15 {
		t.Errorf("missed %d, %d and %d in all, want 15, 0, 15", buf[0].Missed, buf[1].Missed, s.Missed())
	}
	if diff := cmp.Diff(Stats{Published: 25, Missed: 15, Readers: 1}, b.Stats()); diff != "" {
		t.Error(diff)
	}
}

func TestStatsCountShedAndReaders(t *testing.T) {
	b := NewBus(0)
	b.Shed(4)
	s := b.Subscribe(Latest)
	s.Close()
	s.Close()
	b.Close()
	b.Close()
	b.Publish(Event{})
	if diff := cmp.Diff(Stats{Shed: 5}, b.Stats()); diff != "" {
		t.Error(diff)
	}
}

func TestNextEnds(t *testing.T) {
	tests := []struct {
		name string
		end  func(*Bus, *Subscription, context.CancelFunc)
		want error
	}{
		{"when the context does", func(_ *Bus, _ *Subscription, c context.CancelFunc) { c() }, context.Canceled},
		{"when the bus closes", func(b *Bus, _ *Subscription, _ context.CancelFunc) { b.Close() }, ErrClosed},
		{"when it is closed", func(_ *Bus, s *Subscription, _ context.CancelFunc) { s.Close() }, ErrClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBus(10)
			s := b.Subscribe(0)
			defer s.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := s.Next(ctx, make([]Event, 1))
				ended <- err
			}()
			tt.end(b, s, cancel)
			select {
			case err := <-ended:
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("still waiting")
			}
		})
	}
}

func TestClosedBusIsReadToItsEnd(t *testing.T) {
	b := NewBus(10)
	s := b.Subscribe(0)
	defer s.Close()
	publish(b, 2)
	b.Close()
	buf := make([]Event, 1)
	for range 2 {
		if _, err := s.Next(t.Context(), buf); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Next(t.Context(), buf); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestNextRefusesAnEmptyBuffer(t *testing.T) {
	s := NewBus(1).Subscribe(0)
	defer s.Close()
	if _, err := s.Next(t.Context(), nil); err == nil {
		t.Error("no error")
	}
}

// TestPublishNeverBlocks publishes far more than the ring holds past readers that never read,
// that read slowly and that come and go, and holds each reader to: in order, nothing twice,
// and read plus missed is everything.
func TestPublishNeverBlocks(t *testing.T) {
	const publishers, each = 4, 20000
	b := NewBus(128)
	idle := b.Subscribe(0)
	defer idle.Close()
	var readers, writers sync.WaitGroup
	for range 3 {
		s := b.Subscribe(0)
		readers.Go(func() {
			defer s.Close()
			buf := make([]Event, 16)
			var read, last uint64
			for {
				n, err := s.Next(context.Background(), buf)
				if err != nil {
					break
				}
				for _, e := range buf[:n] {
					if e.Sequence != last+1+e.Missed {
						t.Errorf("read %d after %d with %d missed", e.Sequence, last, e.Missed)
					}
					last = e.Sequence
					read++
				}
			}
			if read+s.Missed() != publishers*each {
				t.Errorf("read %d and missed %d of %d", read, s.Missed(), publishers*each)
			}
		})
	}
	for range publishers {
		writers.Go(func() { publish(b, each) })
	}
	writers.Wait()
	b.Close()
	readers.Wait()
	if got := b.Stats().Published; got != publishers*each {
		t.Errorf("published %d, want %d", got, publishers*each)
	}
}

// TestReadPlusMissedIsEverything drives a bus and a reader in any order.
func TestReadPlusMissedIsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBus(rapid.IntRange(1, 9).Draw(t, "capacity"))
		publish(b, rapid.IntRange(0, 20).Draw(t, "before"))
		s := b.Subscribe(Latest)
		defer s.Close()
		start := b.Stats().Published
		var read, missed uint64
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			publish(b, rapid.IntRange(0, 15).Draw(t, "n"))
			buf := make([]Event, rapid.IntRange(1, 12).Draw(t, "buffer"))
			n, _, err := s.take(buf)
			if err != nil {
				t.Fatal(err)
			}
			read += uint64(n)
			if n > 0 {
				missed += buf[0].Missed
				if last := buf[n-1].Sequence; last != start+read+missed {
					t.Fatalf("at %d after reading %d and missing %d from %d", last, read, missed, start)
				}
			}
		}
		if missed != s.Missed() || missed != b.Stats().Missed {
			t.Fatalf("told of %d, the reader counts %d, the bus %d", missed, s.Missed(), b.Stats().Missed)
		}
	})
}

func TestPublishToNobodyDoesNotAllocate(t *testing.T) {
	b := NewBus(16)
	e := Event{Time: time.Unix(1, 0), Source: "hmi-1", Destination: "filler-plc"}
	if n := testing.AllocsPerRun(100, func() { b.Publish(e) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPublish(b *testing.B) {
	bus := NewBus(0)
	e := Event{Time: time.Unix(1, 0), Source: "hmi-1", Destination: "filler-plc"}
	for b.Loop() {
		bus.Publish(e)
	}
}
