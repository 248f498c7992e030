package queue

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/testnet"
)

// readerVariable makes the test binary a reader that accepts everything, in a process of its own
// as the C program is.
const readerVariable = "PENSTOCK_TEST_NOOP_READER"

func TestMain(m *testing.M) {
	if os.Getenv(readerVariable) != "" {
		if err := noopReader(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func noopReader() error {
	ready := false
	q, err := Open(Config{Number: testQueue, Beat: func(time.Time) {
		if !ready {
			ready = true
			fmt.Println("ready")
		}
	}})
	if err != nil {
		return err
	}
	defer q.Close()
	return q.Run(context.Background(), pass)
}

// BenchmarkRoundTrip measures a request and its reply through the box's bridge, both inspected:
// without a queue, with the C program that accepts everything, and with this reader doing the
// same. Each b.N is one round of all three in turn, so that whatever else the machine does meets
// all; the ratio is the median of the rounds'. Run it with -benchtime=30x.
func BenchmarkRoundTrip(b *testing.B) {
	testnet.RequireProgram(b, "gcc")
	noop := filepath.Join(b.TempDir(), "noop")
	if out, err := exec.Command("gcc", "-O2", "-o", noop, "../bench/noop/noop.c", "-lnetfilter_queue").CombinedOutput(); err != nil {
		b.Fatalf("compile the C reader (needs libnetfilter-queue-dev): %v\n%s", err, out)
	}
	direct := newPath(b)
	queued := newPath(b)
	queueRule(b, queued.Box, nftables.TableFamilyIPv4, nftables.ChainHookForward)
	variants := []struct {
		name    string
		path    *path
		command *exec.Cmd
	}{
		{name: "none", path: direct},
		{name: "c", path: queued, command: exec.Command(noop, strconv.Itoa(testQueue), fmt.Sprint(passedMark))},
		{name: "go", path: queued, command: reader()},
	}
	all := map[string][]time.Duration{}
	var ratios []float64
	for round := 0; b.Loop(); round++ {
		median := map[string]time.Duration{}
		for i := range variants {
			v := variants[(i+round)%len(variants)]
			times := v.path.measure(b, v.command)
			median[v.name] = percentile(times, 50)
			all[v.name] = append(all[v.name], times...)
		}
		b.Logf("p50: none %v, c %v, go %v", median["none"], median["c"], median["go"])
		ratios = append(ratios, float64(median["go"])/float64(median["c"]))
	}
	for _, v := range variants {
		b.ReportMetric(float64(percentile(all[v.name], 50))/1e3, v.name+"-p50-µs")
		b.ReportMetric(float64(percentile(all[v.name], 99))/1e3, v.name+"-p99-µs")
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "go/c")
}

func reader() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), readerVariable+"=1")
	return cmd
}

func percentile(times []time.Duration, p int) time.Duration {
	slices.Sort(times)
	return times[len(times)*p/100]
}

// measure returns how long each of many request-reply round trips took while a reader runs.
func (p *path) measure(b *testing.B, command *exec.Cmd) []time.Duration {
	b.Helper()
	const warmUp, trips = 500, 2000
	if command != nil {
		again := exec.Command(command.Path, command.Args[1:]...)
		again.Env = command.Env
		process, err := p.StartCommand(p.Box, again)
		must(b, err)
		defer process.Stop()
		must(b, process.WaitOutput("ready", 5*time.Second))
	}
	client, server := p.connect(b)
	defer unix.Close(client)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		echo(server)
		unix.Close(server)
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var message [12]byte // the length of a Modbus read request
	times := make([]time.Duration, 0, trips)
	for i := range warmUp + trips {
		started := time.Now()
		if _, err := unix.Write(client, message[:]); err != nil {
			b.Fatal(err)
		}
		if _, err := unix.Read(client, message[:]); err != nil {
			b.Fatal(err)
		}
		if i >= warmUp {
			times = append(times, time.Since(started))
		}
	}
	must(b, unix.Shutdown(client, unix.SHUT_RDWR)) // ends echo
	<-ended
	return times
}

// echo sends back what it reads, by calls that block a thread of its own: the Go network poller
// would take longer than what is measured.
func echo(fd int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var buf [64]byte
	for {
		n, err := unix.Read(fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			return
		}
		if _, err := unix.Write(fd, buf[:n]); err != nil {
			return
		}
	}
}

// connect returns both ends of a TCP connection from the plant to the cell, blocking.
func (p *path) connect(b *testing.B) (client, server int) {
	b.Helper()
	var listener net.Listener
	must(b, p.In(p.Cell, func() (err error) {
		listener, err = net.Listen("tcp4", testnet.CellAddress+":0")
		return err
	}))
	defer listener.Close()
	must(b, p.In(p.Plant, func() error {
		c, err := net.Dial("tcp4", listener.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		client, err = blocking(c)
		return err
	}))
	c, err := listener.Accept()
	must(b, err)
	defer c.Close()
	server, err = blocking(c)
	must(b, err)
	return client, server
}

// blocking returns a blocking descriptor of a connection's own.
func blocking(c net.Conn) (int, error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(original uintptr) { fd, dupErr = unix.Dup(int(original)) }); err != nil {
		return -1, err
	}
	if dupErr != nil {
		return -1, dupErr
	}
	return fd, unix.SetNonblock(fd, false)
}
