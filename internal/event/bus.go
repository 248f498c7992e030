package event

import (
	"context"
	"errors"
	"sync"
	"time"
)

// DefaultCapacity is how many recent events a bus keeps unless told otherwise.
const DefaultCapacity = 4096

// copyChunk bounds how many events a reader copies while it holds the lock that Publish
// needs, so that reading the whole ring never makes a publisher wait for the whole ring.
const copyChunk = 64

// ErrClosed is what a reader of a closed bus or subscription gets once nothing is left.
var ErrClosed = errors.New("read events: the bus is closed")

// Bus keeps the most recent events in a ring and lets any number of readers follow it. Each
// reader has its own place in the ring; one that falls behind by more than the ring holds
// loses the oldest events and is told how many. Publish therefore costs the same whoever
// reads, and how slowly. All methods are safe for concurrent use.
type Bus struct {
	mu        sync.Mutex
	ring      []Event
	published uint64 // the sequence of the newest event
	shed      uint64
	missed    uint64
	readers   int
	closed    bool

	// wake is closed to wake the waiting readers; waiting says that there are any, so that
	// publishing to nobody allocates nothing.
	wake    chan struct{}
	waiting bool
}

// Stats counts what went through a bus.
type Stats struct {
	Published uint64 // events put on the bus
	Shed      uint64 // events given up before they reached the bus (see Bus.Shed)
	Missed    uint64 // events that left the ring before a reader had taken them, over all readers
	Readers   int    // subscriptions now open
}

// NewBus returns a bus that keeps the given number of events, DefaultCapacity if it is not positive.
func NewBus(capacity int) *Bus {
	if capacity <= 0 {
		capacity = DefaultCapacity
	}
	return &Bus{ring: make([]Event, capacity), wake: make(chan struct{})}
}

// Publish puts the event on the bus. It never waits for a reader, and never fails: after
// Close it only counts the event as shed.
func (b *Bus) Publish(e Event) {
	e = e.normalised()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Missed = 0
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		b.shed++
		return
	}
	b.published++
	e.Sequence = b.published
	b.ring[e.Sequence%uint64(len(b.ring))] = e
	b.wakeReaders()
}

// Shed counts events that a producer gave up before publishing them: over a rate limit, or
// lost in the kernel's own ring.
func (b *Bus) Shed(n uint64) {
	b.mu.Lock()
	b.shed += n
	b.mu.Unlock()
}

// Stats returns the counters as they are now.
func (b *Bus) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{Published: b.published, Shed: b.shed, Missed: b.missed, Readers: b.readers}
}

// Close ends the bus: readers get what is left and then ErrClosed. A second Close is harmless.
func (b *Bus) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.wakeReaders()
	}
}

// Recent returns the events after the sequence since that are still held, oldest first, at
// most limit of them and then the newest ones (no limit if it is not positive). What is
// published meanwhile is not part of the answer.
func (b *Bus) Recent(since uint64, limit int) []Event {
	b.mu.Lock()
	last := b.published
	next := max(since+1, b.oldest())
	b.mu.Unlock()
	if next > last {
		return nil
	}
	if limit > 0 && last-next+1 > uint64(limit) {
		next = last - uint64(limit) + 1
	}
	events := make([]Event, 0, last-next+1)
	for next <= last {
		events, next = b.appendChunk(events, next, last)
	}
	return events
}

// appendChunk appends at most copyChunk events of [next, last] that are still held.
func (b *Bus) appendChunk(events []Event, next, last uint64) ([]Event, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next = max(next, b.oldest())
	for range copyChunk {
		if next > last {
			break
		}
		events = append(events, b.ring[next%uint64(len(b.ring))])
		next++
	}
	return events, next
}

// oldest returns the sequence of the oldest event held; published+1 where there is none.
func (b *Bus) oldest() uint64 {
	if held := uint64(len(b.ring)); b.published > held {
		return b.published - held + 1
	}
	return 1
}

func (b *Bus) wakeReaders() {
	if b.waiting {
		b.waiting = false
		close(b.wake)
		b.wake = make(chan struct{})
	}
}

// Subscription is one reader's place on a bus. It is for one goroutine; Close may be called
// from any.
type Subscription struct {
	bus    *Bus
	next   uint64 // the sequence to be read next
	missed uint64
	closed bool // guarded by bus.mu
}

// Subscribe returns a reader that starts after the sequence since: 0 begins with the oldest
// event held, Latest with the next one to be published.
func (b *Bus) Subscribe(since uint64) *Subscription {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.readers++
	// Asking for what is gone already is not a loss of this reader's.
	next := b.oldest()
	if since >= next {
		next = min(since, b.published) + 1
	}
	return &Subscription{bus: b, next: next}
}

// Latest, given to Subscribe, skips what is held already.
const Latest = ^uint64(0)

// Next waits for events and fills buf with as many as there are. It returns how many it
// filled in, at least one, or the reason why there are none: the context's error or ErrClosed.
// Where events were lost in front of the first one, that one's Missed says how many.
func (s *Subscription) Next(ctx context.Context, buf []Event) (int, error) {
	if len(buf) == 0 {
		return 0, errors.New("read events: the buffer is empty")
	}
	for {
		n, wake, err := s.take(buf)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// take copies what is there, or returns the channel that closes when there may be more.
func (s *Subscription) take(buf []Event) (n int, wake <-chan struct{}, err error) {
	b := s.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.closed {
		return 0, nil, ErrClosed
	}
	var lost uint64
	if oldest := b.oldest(); s.next < oldest {
		lost = oldest - s.next
		s.next = oldest
		s.missed += lost
		b.missed += lost
	}
	for n < len(buf) && n < copyChunk && s.next <= b.published {
		buf[n] = b.ring[s.next%uint64(len(b.ring))]
		s.next++
		n++
	}
	switch {
	case n > 0:
		buf[0].Missed = lost
	case b.closed:
		err = ErrClosed
	default:
		b.waiting = true
	}
	return n, b.wake, err
}

// Missed returns how many events this reader has lost so far.
func (s *Subscription) Missed() uint64 {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	return s.missed
}

// Close ends the subscription and wakes whoever waits in Next. A second Close is harmless.
func (s *Subscription) Close() {
	b := s.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	b.readers--
	b.wakeReaders()
}
