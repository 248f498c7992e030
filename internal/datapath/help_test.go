package datapath

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/verdict"
)

func netip4(a, b, c, d byte) netip.Addr { return netip.AddrFrom4([4]byte{a, b, c, d}) }

func netip6(last byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 2, 0, 15: last})
}

// longer makes an IPv4 packet claim more bytes than it has.
func longer(ip []byte) []byte {
	ip[2], ip[3] = 0x10, 0
	return ip
}

// emptyFlows forgets every flow and gives its slot back.
func (d *Datapath) emptyFlows(t testing.TB) {
	t.Helper()
	var all []bpf.BridgeFlowChoice
	d.flowTable.each(func(e *entry) bool {
		all = append(all, bpf.BridgeFlowChoice{At: e.at, Version: e.flow.Version})
		return true
	})
	if n, err := d.remove(all, true); err != nil || n != len(all) {
		t.Fatalf("%d of %d flows removed: %v", n, len(all), err)
	}
	for identity := range uint32(16) {
		if err := d.objects.FlowCounts.Put(identity, uint32(0)); err != nil {
			t.Fatal(err)
		}
	}
}

// changeFlows has f change the entry of each flow. Nothing else may use the table meanwhile.
func (d *Datapath) changeFlows(t testing.TB, f func(*entry)) {
	t.Helper()
	d.flowTable.each(func(e *entry) bool {
		f(e)
		if err := d.objects.Flows.Put(e.at, &e.flow); err != nil {
			t.Fatal(err)
		}
		return true
	})
}

// decidedShift is how many low bits of ns an entry's decided leaves out (DECIDED_SHIFT in bpf/types.h).
const decidedShift = 31

// longAgo is an entry's moment that is older than any limit.
func (d *Datapath) longAgo() uint32 {
	c := d.flowClock()
	return uint32((c.ticks*c.tickLength - uint64(24*time.Hour)) >> seenShift)
}

// reasons is what d.Reasons returns, read in one system call.
func (d *Datapath) reasons(t testing.TB) (counts [verdict.ReasonCount]ReasonCount) {
	t.Helper()
	var keys [verdict.ReasonCount]uint32
	perCPU := make([]bpf.BridgeReasonCounter, len(keys)*ebpf.MustPossibleCPU())
	var cursor ebpf.MapBatchCursor
	n, err := d.objects.Reasons.BatchLookup(&cursor, keys[:], perCPU, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) || n != len(keys) {
		t.Fatalf("%d counters read: %v", n, err)
	}
	for i, c := range perCPU {
		r := &counts[keys[i/ebpf.MustPossibleCPU()]]
		r.Frames += c.Frames
		r.Bytes += c.Bytes
		r.EventsLost += c.EventsLost
	}
	return counts
}

// moved is what was counted between two readings, permissions left out.
func moved(before, after [verdict.ReasonCount]ReasonCount) map[verdict.Reason]uint64 {
	delta := map[verdict.Reason]uint64{}
	for r := range after {
		if n := after[r].Frames - before[r].Frames; n > 0 && verdict.Reason(r) != verdict.ReasonPermitted {
			delta[verdict.Reason(r)] = n
		}
	}
	return delta
}
