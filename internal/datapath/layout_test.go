package datapath

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

func objectTypes(t *testing.T) *btf.Spec {
	t.Helper()
	spec, err := bpf.LoadBridge()
	if err != nil {
		t.Fatal(err)
	}
	return spec.Types
}

// TestReasonsAreOneList holds the C enumeration to the names and numbers of package verdict.
func TestReasonsAreOneList(t *testing.T) {
	var reasons *btf.Enum
	if err := objectTypes(t).TypeByName("penstock_reason", &reasons); err != nil {
		t.Fatal(err)
	}
	if len(reasons.Values) != verdict.ReasonCount+1 {
		t.Errorf("C has %d reasons, Go %d", len(reasons.Values)-1, verdict.ReasonCount)
	}
	for _, v := range reasons.Values {
		name := strings.ToLower(strings.TrimPrefix(v.Name, "REASON_"))
		if want := verdict.Reason(v.Value).String(); name != want && name != "count" {
			t.Errorf("reason %d is %s in C and %s in Go", v.Value, name, want)
		}
	}
}

// TestActionsAreOneList holds the same for actions.
func TestActionsAreOneList(t *testing.T) {
	var actions *btf.Enum
	if err := objectTypes(t).TypeByName("penstock_action", &actions); err != nil {
		t.Fatal(err)
	}
	for _, v := range actions.Values {
		name := strings.ToLower(strings.TrimPrefix(v.Name, "ACTION_"))
		if want := verdict.Action(v.Value).String(); name != want {
			t.Errorf("action %d is %s in C and %s in Go", v.Value, name, want)
		}
	}
}

// TestSizesAgree holds that Go's view of each structure is as long as C's.
func TestSizesAgree(t *testing.T) {
	types := objectTypes(t)
	for name, size := range map[string]uintptr{
		"event": unsafe.Sizeof(bpf.BridgeEvent{}), "tap_header": unsafe.Sizeof(bpf.BridgeTapHeader{}),
		"flow": unsafe.Sizeof(bpf.BridgeFlow{}), "flow_key": unsafe.Sizeof(bpf.BridgeFlowKey{}),
		"flow_record": unsafe.Sizeof(bpf.BridgeFlowRecord{}), "flow_choice": unsafe.Sizeof(bpf.BridgeFlowChoice{}),
		"slot": unsafe.Sizeof(bpf.BridgeSlot{}), "identity": unsafe.Sizeof(bpf.BridgeIdentity{}),
		"conduit": unsafe.Sizeof(bpf.BridgeConduit{}), "address_key": unsafe.Sizeof(bpf.BridgeAddressKey{}),
		"control_block": unsafe.Sizeof(bpf.BridgeControlBlock{}), "queue_state": unsafe.Sizeof(bpf.BridgeQueueState{}), "policy_defaults": unsafe.Sizeof(bpf.BridgePolicyDefaults{}),
		"pair": unsafe.Sizeof(bpf.BridgePair{}), "tally": unsafe.Sizeof(bpf.BridgeTally{}), "control_counter": unsafe.Sizeof(bpf.BridgeControlCounter{}),
		"io_key": unsafe.Sizeof(bpf.BridgeIoKey{}), "io_half": unsafe.Sizeof(bpf.BridgeIoHalf{}),
		"io_state": unsafe.Sizeof(bpf.BridgeIoState{}), "io_approval": unsafe.Sizeof(bpf.BridgeIoApproval{}),
		"io_candidate": unsafe.Sizeof(bpf.BridgeIoCandidate{}), "io_connection": unsafe.Sizeof(bpf.BridgeIoConnection{}),
	} {
		var s *btf.Struct
		if err := types.TypeByName(name, &s); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if uintptr(s.Size) != size {
			t.Errorf("struct %s has %d bytes in C and %d in Go", name, s.Size, size)
		}
	}
}

// TestNumbersAgree holds the numbers that C defines by #define and Go by const.
func TestNumbersAgree(t *testing.T) {
	defined := map[string]uint64{}
	for _, file := range []string{"../../bpf/types.h", "../../bpf/maps.h"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^#define (\w+)\s+(0x[0-9a-f]+|\d+)u?\b`).FindAllStringSubmatch(string(raw), -1) {
			if defined[m[1]], err = strconv.ParseUint(m[2], 0, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, want := range map[string]uint64{
		"LAYOUT_VERSION": LayoutVersion, "MAX_CONDUITS": maxConduits, "MAX_IDENTITIES": maxIdentities,
		"MAX_LANES":      mark.MaxLanes,
		"MARK_KIND_MASK": mark.KindMask, "MARK_INSPECT": mark.Inspect, "MARK_PERMITTED": mark.Permitted, "MARK_OWN": mark.Own,
		"MARK_SIDE_B": mark.SideB, "MARK_QUEUE_OPENS": mark.QueueOpens, "MARK_KEY_MASK": mark.KeyMask,
		"MARK_OPENS": mark.Opens, "MARK_CLOSED": mark.Closed, "MARK_RESETS": mark.Resets, "MARK_SLOT_MASK": mark.SlotMask,
		"FLOW_FIN_A": flowFinA, "FLOW_FIN_B": flowFinB, "FLOW_RST": flowReset, "FLOW_ANSWERED": flowAnswered, "FLOW_ADOPTED": flowAdopted, "FLOW_PASSED": flowPassed,
		"ENTRY_FREE": entryFree, "ENTRY_BUSY": entryBusy, "ENTRY_LIVE": entryLive, "ENTRY_STATE": entryStateMask,
		"ENTRIES_AROUND": entriesAround, "SPILL_SHARE": spillShare, "SUM_BYTES_SHIFT": sumBytesShift, "SUM_FRAMES_MASK": sumFramesMask,
		"SEEN_SHIFT": seenShift, "DECIDED_SHIFT": decidedShift, "CHOICES": choices, "CHOICES_OFFSET": choicesOffset, "CHOICES_BUSY": choicesBusy,
		"FLOW_OBSERVED": flowObserved, "TRANSPORT_ETHERTYPE": uint64(policy.TransportEtherType),
		"IO_PORT": policy.IOPort, "MAX_IO": maxIO, "IO_PLACES": ioPlaces, "IO_VARIABLE": ioVariable, "IO_GRACE": ioGrace, "IO_OPENING_MAX": IOOpeningMax,
	} {
		if got, ok := defined[name]; !ok || got != want {
			t.Errorf("%s is %#x in C (defined: %v) and %#x in Go", name, got, ok, want)
		}
	}
}

// typeOf is what the documentation calls a map's type, and how many entries or bytes it has. Maps that exist
// for each generation are made in the size of the policy.
func typeOf(m *ebpf.MapSpec) (kind, size string) {
	kinds := map[ebpf.MapType]string{
		ebpf.Hash: "hash", ebpf.LRUHash: "LRU hash", ebpf.LPMTrie: "LPM trie", ebpf.Array: "array", ebpf.PerCPUArray: "per-CPU array",
		ebpf.Queue: "queue", ebpf.DevMap: "devmap", ebpf.RingBuf: "ring",
	}
	if m.Type == ebpf.ArrayOfMaps {
		return kinds[m.InnerMap.Type], ""
	}
	digits := strconv.Itoa(int(m.MaxEntries))
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	switch {
	case m.Type == ebpf.RingBuf:
		digits = fmt.Sprintf("%d MiB", m.MaxEntries>>20)
	case int(m.MaxEntries) == verdict.ReasonCount:
		digits = "one for each reason"
	}
	return kinds[m.Type], digits
}

// TestDocumentationNamesEveryMap holds that docs/architecture.md says of each map what it is for, and what
// type and size it has.
func TestDocumentationNamesEveryMap(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, types := map[string]bool{}, map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		for _, name := range strings.Split(cells[1], ",") {
			rows[strings.Trim(name, "` ")] = len(cells) == 8 // type, writer, reader, holds, full
			types[strings.Trim(name, "` ")] = strings.TrimSpace(cells[2])
		}
	}
	spec, err := bpf.LoadBridge()
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range spec.Maps {
		if pinned(name) && !rows[name] {
			t.Errorf("the table of maps has no row of %s, or one with a cell missing", name)
			continue
		}
		kind, size := typeOf(m)
		if pinned(name) && (!strings.HasPrefix(types[name], kind) || !strings.Contains(types[name]+" ", " "+size) && size != "") {
			t.Errorf("%s is called %q, and is %s, %s", name, types[name], kind, size)
		}
	}
	if want := fmt.Sprintf("/layout-%d/", LayoutVersion); !strings.Contains(string(text), want) {
		t.Errorf("the maps are not said to lie below %s", want)
	}
}
