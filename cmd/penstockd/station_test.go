package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/testnet"
)

// station is a device that answers every Modbus request lawfully, whatever it asks, and writes
// down each byte that its sockets gave it. Methods are safe for concurrent use.
type station struct {
	listener net.Listener
	mute     bool                        // it reads and does not answer
	answer   func(request []byte) []byte // nil answers lawfully
	bounded  bool                        // its registers end at 65535, as those of devices do

	mu    sync.Mutex
	calls []*call
}

// call is one connection that the station accepted.
type call struct {
	station *station

	mu       sync.Mutex
	conn     net.Conn
	received []byte
	ended    error // how reading ended; nil while it has not
}

// startStation serves on a host's TCP port until the test ends.
func startStation(t *testing.T, h *testnet.Host, port int) *station {
	t.Helper()
	return startAs(t, &station{}, h, port)
}

// startMute is startStation for a device that never answers.
func startMute(t *testing.T, h *testnet.Host, port int) *station {
	t.Helper()
	return startAs(t, &station{mute: true}, h, port)
}

func startAs(t *testing.T, s *station, h *testnet.Host, port int) *station {
	t.Helper()
	err := h.Do(func() (err error) {
		s.listener, err = net.Listen("tcp", fmt.Sprintf("%s:%d", h.Address(), port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.listener.Close()
		for _, c := range s.all() {
			c.conn.Close()
		}
	})
	go s.accept()
	return s
}

func (s *station) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		c := &call{conn: conn, station: s}
		s.mu.Lock()
		s.calls = append(s.calls, c)
		s.mu.Unlock()
		go c.serve()
	}
}

func (s *station) all() []*call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*call{}, s.calls...)
}

// callFrom returns the connection that a client's socket has opened, waiting for it a little.
func (s *station) callFrom(t *testing.T, client net.Conn) *call {
	t.Helper()
	return s.callOf(t, client.LocalAddr().String())
}

// callOf is callFrom for a client's address and port.
func (s *station) callOf(t *testing.T, client string) *call {
	t.Helper()
	var found *call
	err := testnet.WaitFor("the device to accept the connection", patience, func() (bool, error) {
		found = s.find(client)
		return found != nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// find returns the connection of a client's address and port, nil if there has been none.
func (s *station) find(client string) *call {
	for _, c := range s.all() {
		if c.conn.RemoteAddr().String() == client {
			return c
		}
	}
	return nil
}

// serve answers whole requests, one after the other, believing the MBAP header's length.
func (c *call) serve() {
	buf := make([]byte, 4096)
	answered := 0
	for {
		n, err := c.conn.Read(buf)
		c.mu.Lock()
		c.received = append(c.received, buf[:n]...)
		c.ended = err
		var replies []byte
		for {
			request := nextRequest(c.received[answered:])
			if request == nil {
				break
			}
			answered += len(request)
			replies = append(replies, c.station.reply(request)...)
		}
		c.mu.Unlock()
		if len(replies) > 0 && !c.station.mute {
			_, _ = c.conn.Write(replies)
		}
		if err != nil {
			return
		}
	}
}

// bytes returns what has been received.
func (c *call) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]byte{}, c.received...)
}

func (c *call) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

func nextRequest(b []byte) []byte {
	if len(b) < 8 {
		return nil
	}
	n := 6 + int(binary.BigEndian.Uint16(b[4:]))
	if len(b) < n {
		return nil
	}
	return b[:n]
}

func (s *station) reply(request []byte) []byte {
	if s.answer != nil {
		return s.answer(request)
	}
	b := request[7:]
	if s.bounded && len(b) == 5 && b[0] <= 4 && int(binary.BigEndian.Uint16(b[1:]))+int(binary.BigEndian.Uint16(b[3:])) > 1<<16 {
		return mbap(binary.BigEndian.Uint16(request), request[6], []byte{b[0] | 0x80, 2})
	}
	return lawfulReply(request)
}

// lawfulReply answers as a device does that has every coil and register and permits everything.
func lawfulReply(request []byte) []byte {
	pdu := request[7:]
	quantity := func(at int) int { return int(binary.BigEndian.Uint16(pdu[at:])) }
	var reply []byte
	switch function := pdu[0]; {
	case (function == 1 || function == 2) && len(pdu) == 5:
		n := (quantity(3) + 7) / 8
		reply = append([]byte{function, byte(n)}, make([]byte, n)...)
	case (function == 3 || function == 4) && len(pdu) == 5:
		n := 2 * quantity(3)
		reply = append([]byte{function, byte(n)}, make([]byte, n)...)
	case function == 5 || function == 6 || function == 22:
		reply = pdu
	case (function == 15 || function == 16) && len(pdu) >= 6:
		reply = pdu[:5]
	case function == 23 && len(pdu) >= 10:
		n := 2 * quantity(3)
		reply = append([]byte{function, byte(n)}, make([]byte, n)...)
	case function == 43 && len(pdu) == 4 && pdu[1] == 14:
		reply = append([]byte{43, 14, 1, 1, 0, 0, 3}, "\x00\x07Example\x01\x02X1\x02\x032.7"...)
	default:
		reply = []byte{function | 0x80, 1}
	}
	return mbap(binary.BigEndian.Uint16(request), request[6], reply)
}

// mbap is a Modbus/TCP message around a PDU.
func mbap(transaction uint16, unit byte, pdu []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, transaction)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(1+len(pdu)))
	b = append(b, unit)
	return append(b, pdu...)
}

// words are bytes, big-endian numbers of 16 bits.
func words(values ...uint16) []byte {
	var b []byte
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func pdu(function byte, parts ...[]byte) []byte {
	b := []byte{function}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func readRegisters(address, quantity uint16) []byte { return pdu(3, words(address, quantity)) }
func writeRegister(address, value uint16) []byte    { return pdu(6, words(address, value)) }

func writeRegisters(address uint16, values ...uint16) []byte {
	return pdu(16, words(address, uint16(len(values))), []byte{byte(2 * len(values))}, words(values...))
}

// socketTo opens a plain TCP connection from one host to another; it is closed with the test.
func socketTo(t *testing.T, from, to *testnet.Host, port int) *net.TCPConn {
	t.Helper()
	conn, err := trySocket(from, to, port, patience)
	if errors.Is(err, syscall.EHOSTUNREACH) {
		// The host had been asking for the other's MAC address since before the line was up.
		conn, err = trySocket(from, to, port, patience)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func trySocket(from, to *testnet.Host, port int, timeout time.Duration) (*net.TCPConn, error) {
	var conn net.Conn
	err := from.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", fmt.Sprintf("%s:%d", to.Address(), port), timeout)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// ask sends a request in one write and reads its reply.
func ask(conn net.Conn, request []byte, timeout time.Duration) error {
	if _, err := conn.Write(request); err != nil {
		return err
	}
	return readReply(conn, request, timeout)
}

// readReply reads the reply that a station gives to the request, and no other.
func readReply(conn net.Conn, request []byte, timeout time.Duration) error {
	want := lawfulReply(request)
	got := make([]byte, len(want))
	if err := conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if n, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("read the reply to % x, %d of %d bytes: %w", request, n, len(want), err)
	}
	if string(got) != string(want) {
		return fmt.Errorf("the reply to % x is % x, want % x", request, got, want)
	}
	return nil
}

// wasReset reports whether an error of a socket says that the other end, or somebody in its name,
// has ended the connection by a reset.
func wasReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// awaitReset waits for the end of a connection and returns an error unless it was a reset.
func awaitReset(conn net.Conn, timeout time.Duration) error {
	if err := conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, conn)
	switch {
	case wasReset(err):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no reset within %v", timeout)
	}
	return fmt.Errorf("the connection ended by %v, want a reset", err)
}
