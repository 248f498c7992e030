package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/queue"
)

// peerCommand makes this program one end of a measured conversation, or a queue's reader, in a
// process of its own, so that nothing else of the benchmark runs where time is taken.
const peerCommand = "peer"

// peerReady is what a peer writes when it can be talked to.
const peerReady = "ready"

// request is a Modbus read of one holding register of unit 1, reply what a device answers.
// writeOutside is a write that tripPolicy denies, of the same length.
var (
	request      = [...]byte{0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1}
	reply        = [...]byte{0, 1, 0, 0, 0, 5, 1, 3, 2, 0x04, 0xb0}
	writeOutside = [...]byte{0, 2, 0, 0, 0, 6, 1, 6, 0, 100, 0, 1}
)

func peer(args []string) error {
	flags := flag.NewFlagSet(peerCommand, flag.ContinueOnError)
	address := flags.String("address", "", "address and port of the server")
	trips := flags.Int("trips", 0, "round trips")
	pause := flags.Duration("pause", 0, "between two round trips")
	if len(args) == 0 {
		return errors.New("peer: serve, ask or read")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "read" {
		return readQueue()
	}
	// Nothing but the measured loop: no collection, no change of threads.
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	to, err := netip.ParseAddrPort(*address)
	if err != nil {
		return err
	}
	if args[0] == "serve" {
		return serve(to)
	}
	times, resent, err := ask(to, *trips, *pause)
	if err != nil {
		return err
	}
	return writeTimes(os.Stdout, times, resent)
}

// readQueue accepts everything in noopQueue by this module's own reader.
func readQueue() error {
	told := false
	q, err := queue.Open(queue.Config{Number: noopQueue, Beat: func(time.Time) {
		if !told {
			told = true
			fmt.Println(peerReady)
		}
	}})
	if err != nil {
		return err
	}
	defer q.Close()
	return q.Run(context.Background(), func(*queue.Packet) queue.Answer {
		return queue.Answer{Accept: true, Mark: mark.Permitted}
	})
}

// serve answers one connection after another until it is ended.
func serve(at netip.AddrPort) error {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(listener)
	if err := unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(listener, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(listener, 16); err != nil {
		return os.NewSyscallError("listen", err)
	}
	fmt.Println(peerReady)
	for {
		connection, _, err := unix.Accept(listener)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("accept", err)
		}
		answer(connection)
		unix.Close(connection)
	}
}

func answer(connection int) {
	_ = unix.SetsockoptInt(connection, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	var in [len(request)]byte
	for receive(connection, in[:]) == nil {
		if send(connection, reply[:]) != nil {
			return
		}
	}
}

// ask takes the time of round trips, one after the other, and counts the segments that had to be
// sent again.
func ask(to netip.AddrPort, trips int, pause time.Duration) (times []time.Duration, resent uint32, err error) {
	const askTimeout = 10 // s, so that a line that is dead ends the run
	connection, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(connection)
	limit := unix.Timeval{Sec: askTimeout}
	if err := unix.SetsockoptTimeval(connection, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, 0, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.SetsockoptTimeval(connection, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return nil, 0, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Connect(connection, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return nil, 0, os.NewSyscallError("connect", err)
	}
	_ = unix.SetsockoptInt(connection, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	warmUp := min(trips/10, 500)
	times = make([]time.Duration, 0, trips)
	var in [len(reply)]byte
	for i := range warmUp + trips {
		if pause > 0 {
			time.Sleep(pause)
		}
		started := time.Now()
		if err := send(connection, request[:]); err != nil {
			return nil, 0, fmt.Errorf("send request %d: %w", i, err)
		}
		if err := receive(connection, in[:]); err != nil {
			return nil, 0, fmt.Errorf("receive reply %d: %w", i, err)
		}
		if i >= warmUp {
			times = append(times, time.Since(started))
		}
		if in != reply {
			return nil, 0, fmt.Errorf("reply %d is % x", i, in)
		}
	}
	info, err := unix.GetsockoptTCPInfo(connection, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return nil, 0, os.NewSyscallError("getsockopt", err)
	}
	return times, info.Total_retrans, nil
}

// send and receive move a whole message by calls that the runtime does not know of: what it does
// around a call that may block would be measured too.
func send(fd int, b []byte) error {
	return transfer(unix.SYS_WRITE, fd, b)
}

func receive(fd int, b []byte) error {
	return transfer(unix.SYS_READ, fd, b)
}

func transfer(call uintptr, fd int, b []byte) error {
	for len(b) > 0 {
		n, err := rawCall(call, fd, b)
		switch {
		case err == unix.EINTR:
		case err != 0:
			return err
		case n == 0:
			return io.EOF
		default:
			b = b[n:]
		}
	}
	return nil
}

// writeTimes and readTimes carry the result from a peer to the benchmark.
func writeTimes(w io.Writer, times []time.Duration, resent uint32) error {
	b := bufio.NewWriter(w)
	if err := binary.Write(b, binary.NativeEndian, resent); err != nil {
		return err
	}
	if err := binary.Write(b, binary.NativeEndian, times); err != nil {
		return err
	}
	return b.Flush()
}

func readTimes(b []byte) (times []time.Duration, resent uint32, err error) {
	const wordLength = 4
	if len(b) < wordLength {
		return nil, 0, io.ErrUnexpectedEOF
	}
	times = make([]time.Duration, (len(b)-wordLength)/8)
	_, err = binary.Decode(b[wordLength:], binary.NativeEndian, times)
	return times, binary.NativeEndian.Uint32(b), err
}
