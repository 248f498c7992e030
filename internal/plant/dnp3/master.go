package dnp3

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// MasterConfig says who a Master is. Zero values stand for what the comments say.
type MasterConfig struct {
	Address    uint16        // 1
	Outstation uint16        // 10
	Timeout    time.Duration // for each fragment of a reply: 2 s
	Retries    int           // how often a request that has no reply is sent again, as it is: never
	// Eager writes the restart indication away as soon as a response shows it, whatever became of
	// the last attempt, as many masters do. Limit is how many attempts it makes: 1000.
	Eager bool
	Limit int
	// Silent leaves unsolicited responses unconfirmed.
	Silent bool
}

// Master is one end of a connection to an outstation. Requests may be made from several
// goroutines, and go one after the other.
type Master struct {
	config MasterConfig
	ch     *channel
	conn   net.Conn

	request sync.Mutex // held while a request has no reply

	mu          sync.Mutex
	sequence    byte
	replies     chan Fragment
	status      chan Frame // of the link, from the other end
	unsolicited []Fragment
	seenUNS     int // the last unsolicited sequence number, or -1
	iin         IIN
	clears      int  // attempts to write the restart indication away
	clearing    bool // one is on its way
	stray       []Fragment
	err         error
}

// ErrTimeout says that no reply came.
var ErrTimeout = errors.New("no reply")

// NewMaster begins to talk on a connection, which is over with Close. A packet connection has to be
// connected.
func NewMaster(conn net.Conn, c MasterConfig) *Master {
	if c.Address == 0 {
		c.Address = 1
	}
	if c.Outstation == 0 {
		c.Outstation = 10
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Limit == 0 {
		c.Limit = 1000
	}
	m := &Master{
		config: c, conn: conn, seenUNS: -1,
		replies: make(chan Fragment, 16), status: make(chan Frame, 16),
	}
	m.ch = newChannel(true, func() { conn.Close() })
	_, m.ch.datagrams = conn.(net.PacketConn)
	go m.ch.drain(conn.Write)
	go func() {
		err := m.ch.receive(conn, m.frame)
		m.mu.Lock()
		m.err = err
		m.mu.Unlock()
		m.ch.end()
	}()
	return m
}

// Close ends the connection. A second Close is harmless.
func (m *Master) Close() { m.ch.end() }

// Done is closed when the connection is over.
func (m *Master) Done() <-chan struct{} { return m.ch.over }

// Err returns why the connection is over: nil where it is not, or ended in order.
func (m *Master) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Conn returns the connection, for what a Master would never send.
func (m *Master) Conn() net.Conn { return m.conn }

// frame handles a link frame from the outstation.
func (m *Master) frame(f Frame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.Destination != m.config.Address || f.Control&LinkDIR != 0 {
		return
	}
	if !f.primary() {
		select {
		case m.status <- f:
		default:
		}
		return
	}
	if !m.ch.answerLink(f, m.config.Address, LinkDIR) {
		return
	}
	whole := m.ch.assemble(f, false)
	r, err := parseFragment(whole)
	if whole == nil || err != nil || f.Source != m.config.Outstation {
		return
	}
	m.iin = r.IIN
	if r.Function == UnsolicitedResponse {
		m.takeUnsolicited(r)
	} else if r.Function == Response {
		select {
		case m.replies <- r:
		default:
		}
	}
	m.clearRestart()
}

// takeUnsolicited confirms a response that nobody asked for, and keeps it unless it is repeated.
func (m *Master) takeUnsolicited(r Fragment) {
	if int(r.sequence()) != m.seenUNS || len(r.Body) == 0 {
		m.unsolicited = append(m.unsolicited, r)
	}
	m.seenUNS = int(r.sequence())
	if !m.config.Silent {
		m.send(Fragment{Control: FIR | FIN | UNS | r.sequence(), Function: Confirm})
	}
}

func (m *Master) send(f Fragment) {
	m.ch.fragment(FromMaster, m.config.Outstation, m.config.Address, f.Append(nil))
}

// clearRestart does in the background what an eager master does on seeing the restart indication.
func (m *Master) clearRestart() {
	if !m.config.Eager || m.iin&IINRestart == 0 || m.clearing || m.clears >= m.config.Limit {
		return
	}
	m.clearing = true
	m.clears++
	go func() {
		_, err := m.Ask(Write, ClearRestart())
		m.mu.Lock()
		defer m.mu.Unlock()
		m.clearing = false
		if err == nil {
			m.clearRestart() // it may show still
		}
	}()
}

// ClearRestart is what a WRITE carries that clears the restart indication.
func ClearRestart() []byte { return []byte{80, 1, 0x00, 7, 7, 0} }

// Reply is a reply, of all its fragments.
type Reply struct {
	Sequence  byte
	IIN       IIN
	Body      []byte // of all fragments
	Fragments int
}

// Headers returns what the reply carries.
func (r Reply) Headers() ([]Header, error) { return ParseHeaders(r.Body, Response) }

// Ask sends a request and waits for its reply, if there is one to come. An indicated error is no
// error here.
func (m *Master) Ask(function Function, body ...[]byte) (Reply, error) {
	m.request.Lock()
	defer m.request.Unlock()
	return m.ask(Request(m.nextSequence(), function, body...))
}

// AskRaw sends a request fragment as it is, and waits for the reply to its sequence number.
func (m *Master) AskRaw(fragment []byte) (Reply, error) {
	m.request.Lock()
	defer m.request.Unlock()
	return m.ask(fragment)
}

func (m *Master) nextSequence() byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sequence
	m.sequence = (m.sequence + 1) & sequenceBits
	return s
}

func (m *Master) ask(fragment []byte) (reply Reply, err error) {
	m.mu.Lock()
	for len(m.replies) > 0 {
		m.stray = append(m.stray, <-m.replies)
	}
	m.ch.fragment(FromMaster, m.config.Outstation, m.config.Address, fragment)
	m.mu.Unlock()
	function := Function(fragment[1])
	if function.unanswered() {
		return Reply{}, nil
	}
	reply.Sequence = fragment[0] & sequenceBits
	timeout := time.NewTimer(m.config.Timeout)
	defer timeout.Stop()
	for expected, again := reply.Sequence, m.config.Retries; ; {
		select {
		case r := <-m.replies:
			if r.sequence() != expected || r.Control&FIR != 0 != (reply.Fragments == 0) {
				m.strayed(r)
				continue
			}
			reply.IIN |= r.IIN
			reply.Body = append(reply.Body, r.Body...)
			reply.Fragments++
			if r.Control&CON != 0 {
				m.mu.Lock()
				m.send(Fragment{Control: FIR | FIN | expected, Function: Confirm})
				m.mu.Unlock()
			}
			if r.Control&FIN != 0 {
				return reply, nil
			}
			expected = (expected + 1) & sequenceBits
			// The next request must not have a number that a fragment of this reply had.
			m.mu.Lock()
			m.sequence = (expected + 1) & sequenceBits
			m.mu.Unlock()
			timeout.Reset(m.config.Timeout)
		case <-timeout.C:
			if again > 0 && reply.Fragments == 0 {
				again--
				m.resend(fragment)
				timeout.Reset(m.config.Timeout)
				continue
			}
			return reply, fmt.Errorf("%v: %w within %v", function, ErrTimeout, m.config.Timeout)
		case <-m.ch.over:
			if err := m.Err(); err != nil {
				return reply, fmt.Errorf("%v: %w", function, err)
			}
			return reply, fmt.Errorf("%v: %w", function, net.ErrClosed)
		}
	}
}

func (m *Master) resend(fragment []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ch.fragment(FromMaster, m.config.Outstation, m.config.Address, fragment)
}

func (m *Master) strayed(r Fragment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stray = append(m.stray, r)
}

// Stray returns responses that answered nothing, such as those with another sequence number.
func (m *Master) Stray() []Fragment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Fragment{}, m.stray...)
}

// Unsolicited returns what came unasked, repetitions left out.
func (m *Master) Unsolicited() []Fragment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Fragment{}, m.unsolicited...)
}

// Indications returns those of the last response.
func (m *Master) Indications() IIN {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.iin
}

// RestartClears returns how many times an eager master has tried to write the restart indication away.
func (m *Master) RestartClears() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clears
}
