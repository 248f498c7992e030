package dnp3

import (
	"errors"
	"io"
	"net"
	"sync"
)

// channelQueue is how many writes a channel holds for a peer that does not read; one more ends it.
const channelQueue = 256

// channel carries octets to one peer, and finds the frames in what comes back.
type channel struct {
	scanner    scanner
	assemblers map[[2]uint16]*assembler
	transport  byte // the next sequence number sent
	datagrams  bool // each frame goes alone, so that no datagram is fragmented

	reset bool // the link's secondary station has been reset
	fcb   byte // that the next confirmed frame has to have

	out   chan []byte
	close func()
	once  sync.Once
	over  chan struct{}
}

func newChannel(hunts bool, close func()) *channel {
	return &channel{
		scanner:    scanner{hunts: hunts},
		assemblers: make(map[[2]uint16]*assembler),
		out:        make(chan []byte, channelQueue),
		close:      close,
		over:       make(chan struct{}),
	}
}

// send queues octets; it never waits.
func (c *channel) send(b []byte) {
	select {
	case c.out <- b:
	default:
		c.end()
	}
}

func (c *channel) end() {
	c.once.Do(func() {
		close(c.over)
		c.close()
	})
}

// drain writes what is queued until the channel ends.
func (c *channel) drain(write func([]byte) (int, error)) {
	for {
		select {
		case b := <-c.out:
			if _, err := write(b); err != nil {
				c.end()
				return
			}
		case <-c.over:
			return
		}
	}
}

// maxAssemblers bounds the pairs of addresses whose segments a channel puts together.
const maxAssemblers = 64

// assemble adds a frame's segment to those of its pair of addresses.
func (c *channel) assemble(f Frame, loose bool) []byte {
	pair := [2]uint16{f.Source, f.Destination}
	a := c.assemblers[pair]
	if a == nil {
		if len(c.assemblers) >= maxAssemblers {
			return nil
		}
		a = &assembler{loose: loose}
		c.assemblers[pair] = a
	}
	return a.take(f.Data)
}

// fragment sends an application fragment as unconfirmed user data.
func (c *channel) fragment(control byte, destination, source uint16, fragment []byte) {
	var b []byte
	for _, s := range Segments(fragment, c.transport) {
		b = Frame{Control: control, Destination: destination, Source: source, Data: s}.Append(b)
		c.transport++
		if c.datagrams {
			c.send(b)
			b = nil
		}
	}
	if len(b) > 0 {
		c.send(b)
	}
}

// answerLink replies to what the link layer asks for by itself, and reports whether the frame's
// user data are to be taken. dir is the direction bit of this end.
func (c *channel) answerLink(f Frame, own uint16, dir byte) bool {
	if !f.primary() {
		return false
	}
	answer := func(function byte) {
		c.send(Frame{Control: dir | function, Destination: f.Source, Source: own}.Append(nil))
	}
	switch f.function() {
	case ResetLinkStates:
		c.reset, c.fcb = true, LinkFCB
		answer(LinkACK)
	case TestLinkStates:
		if !c.reset {
			answer(LinkNACK)
			return false
		}
		answer(LinkACK)
	case RequestLinkStatus:
		answer(LinkStatus)
	case UnconfirmedUserData:
		return true
	case ConfirmedUserData:
		if !c.reset {
			answer(LinkNACK)
			return false
		}
		answer(LinkACK)
		if f.Control&LinkFCB != c.fcb {
			return false // repeated
		}
		c.fcb ^= LinkFCB
		return true
	default:
		answer(LinkNotSupported)
	}
	return false
}

// receive hands the frames of a connection on until it ends.
func (c *channel) receive(conn io.Reader, handle func(Frame)) error {
	buf := make([]byte, 1<<16)
	for {
		n, err := conn.Read(buf)
		frames, garbage := c.scanner.feed(buf[:n])
		for _, f := range frames {
			handle(f)
		}
		switch {
		case garbage != nil:
			<-c.over // it stays open, and nothing is read any more
			return garbage
		case errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
