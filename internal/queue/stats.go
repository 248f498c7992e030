package queue

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// Stats is what a queue did since it was opened.
type Stats struct {
	// Counted by the verdict loop. Packets = Accepted + Dropped.
	Packets  uint64 // packets with a verdict of their own
	Accepted uint64
	Dropped  uint64 // for whatever cause, Unparseable (with an id), Panics and BadEdits included
	Edited   uint64 // accepted with another payload

	Unparseable uint64 // messages that could not be read
	Panics      uint64 // packets dropped because the handler panicked
	BadEdits    uint64 // packets dropped because their edit could not be given to the kernel
	Lost        uint64 // packet ids that never arrived readable; a batch drop covered each
	Overruns    uint64 // times the kernel said that it had to leave out messages (ENOBUFS)
	Refused     uint64 // verdicts for packets that the kernel no longer held, or rejected
	SendErrors  uint64 // writes of verdicts that failed; a batch drop was sent in their place

	// Counted by the kernel, modulo 2^32, from /proc/net/netfilter/nfnetlink_queue.
	Depth       uint32 // packets waiting for a verdict now
	QueueFull   uint32 // dropped because MaxLength packets were waiting already
	UserDropped uint32 // dropped because the message did not fit into the socket's buffer
}

// counters is the loop's share of Stats. Only the loop writes it, anyone may read it.
type counters struct {
	packets, accepted, dropped, edited                    atomic.Uint64
	unparseable, panics, badEdits, lost, overruns, refuse atomic.Uint64
	sendErrors                                            atomic.Uint64
}

func (c *counters) stats() Stats {
	return Stats{
		Packets:     c.packets.Load(),
		Accepted:    c.accepted.Load(),
		Dropped:     c.dropped.Load(),
		Edited:      c.edited.Load(),
		Unparseable: c.unparseable.Load(),
		Panics:      c.panics.Load(),
		BadEdits:    c.badEdits.Load(),
		Lost:        c.lost.Load(),
		Overruns:    c.overruns.Load(),
		Refused:     c.refuse.Load(),
		SendErrors:  c.sendErrors.Load(),
	}
}

// kernelTable is the kernel's list of queues in one network namespace. The open file belongs to
// the namespace of the thread that opened it and can then be read from any thread; the path is
// the thread's, because /proc/net is that of the process's first thread.
type kernelTable struct{ file *os.File }

func openKernelTable() (kernelTable, error) {
	f, err := os.Open("/proc/thread-self/net/netfilter/nfnetlink_queue")
	if err != nil {
		return kernelTable{}, fmt.Errorf("open the kernel's list of queues (is nfnetlink_queue built?): %w", err)
	}
	return kernelTable{f}, nil
}

// fill copies the kernel's counters for one queue into s.
func (t kernelTable) fill(number uint16, s *Stats) error {
	var buf [8192]byte
	n, err := t.file.ReadAt(buf[:], 0)
	if n == 0 && err != nil {
		return fmt.Errorf("read the kernel's list of queues: %w", err)
	}
	return parseKernelTable(string(buf[:n]), number, s)
}

// parseKernelTable finds a queue's line. Its columns are number, port id, waiting, copy mode,
// copy range, dropped as full, dropped as undeliverable, last id, 1.
func parseKernelTable(table string, number uint16, s *Stats) error {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 8 || f[0] != strconv.Itoa(int(number)) {
			continue
		}
		for _, column := range []struct {
			text string
			into *uint32
		}{{f[2], &s.Depth}, {f[5], &s.QueueFull}, {f[6], &s.UserDropped}} {
			v, err := strconv.ParseUint(column.text, 10, 32)
			if err != nil {
				return fmt.Errorf("read queue %d in the kernel's list: %w", number, err)
			}
			*column.into = uint32(v)
		}
		return nil
	}
	return fmt.Errorf("find queue %d in the kernel's list: it is not bound", number)
}
