// Package arrows holds the direction of the module's imports: dissectors ← policy ← inspect ←
// commands, with leaves below them, and each library behind the one package that wraps it.
package arrows

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/penstock-ot/penstock/"

// layer says what else of this module some packages may import. Patterns are import paths
// without the module's; one that ends in "/..." stands for everything below it, too.
type layer struct {
	packages string
	imports  []string
}

// layers are the packages whose place in the order matters. One that is not named may import
// what no other rule forbids.
var layers = []layer{
	{"dissectors/...", nil},
	{"bpf", nil},
	{"internal/verdict", nil},
	{"internal/datapath/mark", nil},
	{"internal/frame/...", []string{"internal/verdict"}},
	{"internal/stream", []string{"internal/verdict"}},
	{"internal/event", []string{"internal/verdict"}},
	{"internal/identity", nil},
	{"internal/store", []string{"internal/verdict"}},
	{"internal/queue", []string{"internal/verdict"}},
	{"internal/policy", []string{"dissectors/...", "internal/verdict"}},
	{"internal/inspect/...", []string{
		"dissectors/...", "internal/verdict", "internal/frame", "internal/stream", "internal/policy", "internal/identity",
		"internal/inspect/...",
	}},
	{"internal/datapath", []string{"bpf", "internal/datapath/mark", "internal/policy", "internal/verdict"}},
	{"internal/bridge/...", []string{"internal/bridge/...", "internal/datapath/mark", "internal/policy"}},
	{"internal/api", []string{"internal/event", "internal/identity", "internal/outage", "internal/policy", "internal/verdict"}},
	{"internal/tui/...", []string{"internal/tui/...", "internal/api"}},
	{"internal/plant/dnp3", nil}, // what it says of DNP3 is not the dissector's
}

// holder says who alone may import something: a package of ours or a library, each with
// everything below it.
type holder struct {
	imported string
	by       []string
	tests    bool // tests of other packages may import it, too
}

var holders = []holder{
	{imported: module + "cmd"}, // nobody
	{imported: module + "bpf", by: []string{"internal/datapath"}},
	{imported: "github.com/cilium/ebpf", by: []string{"bpf", "internal/datapath/..."}, tests: true}, // who look at what the kernel holds
	// The benchmark measures the library's own Modbus layer beside ours: it is a peer there, not a part.
	{imported: "github.com/google/gopacket", by: []string{"internal/frame/...", "internal/bench"}},
	{imported: "github.com/gopacket/gopacket", by: []string{"internal/frame/..."}},
	{imported: "github.com/florianl/go-nfqueue", by: []string{"internal/queue"}},
	{imported: "go.etcd.io/bbolt", by: []string{"internal/store"}},
	{imported: "github.com/spf13/viper", by: []string{"internal/settings"}},
	{imported: "github.com/spf13/cobra", by: []string{"cmd/..."}},
	{imported: "github.com/vishvananda/netlink", by: []string{"internal/bridge/...", "internal/testnet", "internal/demo", "internal/bench"}, tests: true},
	{imported: "github.com/google/nftables", by: []string{"internal/bridge/...", "internal/demo", "internal/bench"}, tests: true},

	// Whatever lays plants or plays a device is for trying the appliance out, not a part of it.
	{imported: "github.com/simonvetter/modbus", by: []string{"internal/plant", "internal/demo", "internal/bench"}, tests: true},
	{imported: "github.com/danomagnum/gologix", by: []string{"internal/plant/...", "internal/demo", "internal/bench"}, tests: true},
	{imported: module + "internal/testnet", by: []string{"internal/plant/...", "internal/demo", "internal/bench"}, tests: true},
	{imported: module + "internal/plant", by: []string{"internal/plant", "internal/demo", "internal/bench"}, tests: true},
}

// node is a package of the module as `go list -json` prints it.
type node struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func (n *node) path() string { return strings.TrimPrefix(n.ImportPath, module) }

// alone lists the packages that stand on the standard library and nothing else.
var alone = []string{"dissectors/...", "internal/verdict", "internal/datapath/mark", "internal/plant/dnp3"}

// wrong lists what a package imports against the arrows.
func wrong(n *node) []string {
	var found []string
	for _, imported := range n.Imports {
		if thirdParty(imported) && matchesAny(alone, n.path()) {
			found = append(found, fmt.Sprintf("%s imports %s: it stands on the standard library alone", n.path(), imported))
		}
		if ours, ok := strings.CutPrefix(imported, module); ok && !permitted(n.path(), ours) {
			found = append(found, fmt.Sprintf("%s imports %s: the arrow points the other way", n.path(), ours))
		}
		if h := heldFrom(n.path(), imported); h != nil {
			found = append(found, fmt.Sprintf("%s imports %s: only %v may", n.path(), imported, h.by))
		}
	}
	for _, imported := range slices.Concat(n.TestImports, n.XTestImports) {
		if h := heldFrom(n.path(), imported); h != nil && !h.tests {
			found = append(found, fmt.Sprintf("a test of %s imports %s: only %v may", n.path(), imported, h.by))
		}
	}
	return found
}

// permitted reports whether a layer may import a package of ours.
func permitted(importer, imported string) bool {
	for _, l := range layers {
		if matches(l.packages, importer) && !matchesAny(l.imports, imported) {
			return false
		}
	}
	return true
}

// heldFrom returns the rule that keeps a package from importing something.
func heldFrom(importer, imported string) *holder {
	for i := range holders {
		h := &holders[i]
		within := imported == h.imported || strings.HasPrefix(imported, h.imported+"/")
		if within && !matchesAny(h.by, importer) {
			return h
		}
	}
	return nil
}

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, path) })
}

func matches(pattern, path string) bool {
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == tree || strings.HasPrefix(path, tree+"/")
	}
	return path == pattern
}

// thirdParty: paths of the standard library have no dot in their first element.
func thirdParty(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".") && !strings.HasPrefix(path, module)
}

func TestImportsFollowTheArrows(t *testing.T) {
	nodes := list(t)
	if len(nodes) < 10 {
		t.Fatalf("go list names %d packages of the module: that is not all", len(nodes))
	}
	for i := range nodes {
		for _, w := range wrong(&nodes[i]) {
			t.Error(w)
		}
	}
}

func list(t *testing.T) []node {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("list the module's packages: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("list the module's packages: %v", err)
	}
	var nodes []node
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var n node
		err := d.Decode(&n)
		if errors.Is(err, io.EOF) {
			return nodes
		}
		if err != nil {
			t.Fatalf("read what go list printed: %v", err)
		}
		nodes = append(nodes, n)
	}
}

// TestWrongArrowsAreFound tries the rules on arrows that must not be.
func TestWrongArrowsAreFound(t *testing.T) {
	for _, row := range []struct {
		name, importer, imported string
		test                     bool // it is a test that imports
		fine                     bool
	}{
		{name: "dissector on a library", importer: "dissectors/modbus", imported: "github.com/google/go-cmp/cmp"},
		{name: "dissector on policy", importer: "dissectors/modbus", imported: module + "internal/policy"},
		{name: "dissector on the standard library", importer: "dissectors/modbus", imported: "encoding/binary", fine: true},
		{name: "verdict on anything of ours", importer: "internal/verdict", imported: module + "internal/event"},
		{name: "policy on inspect", importer: "internal/policy", imported: module + "internal/inspect"},
		{name: "policy on a dissector", importer: "internal/policy", imported: module + "dissectors/modbus", fine: true},
		{name: "inspect on the fast path", importer: "internal/inspect", imported: module + "internal/datapath"},
		{name: "daemon on the fast path", importer: "cmd/penstockd", imported: module + "internal/datapath", fine: true},
		{name: "daemon on generated code", importer: "cmd/penstockd", imported: module + "bpf"},
		{name: "bridge on cilium", importer: "internal/bridge", imported: "github.com/cilium/ebpf/link"},
		{name: "test on cilium", importer: "internal/bridge", imported: "github.com/cilium/ebpf", test: true, fine: true},
		{name: "test on generated code", importer: "cmd/penstockd", imported: module + "bpf", test: true},
		{name: "inspect on gopacket", importer: "internal/inspect", imported: "github.com/google/gopacket/layers"},
		{name: "daemon on gopacket", importer: "cmd/penstockd", imported: "github.com/google/gopacket/layers"},
		{name: "benchmark on gopacket, to measure it", importer: "internal/bench", imported: "github.com/google/gopacket/layers", fine: true},
		{name: "capture reader on gopacket", importer: "internal/frame", imported: "github.com/google/gopacket/pcapgo", fine: true},
		{name: "screen on the daemon's state", importer: "internal/tui", imported: module + "internal/store"},
		{name: "screen on the api", importer: "internal/tui/pages", imported: module + "internal/api", fine: true},
		{name: "package on a command", importer: "internal/demo", imported: module + "cmd/penstock"},
		{name: "daemon on a test peer", importer: "cmd/penstockd", imported: "github.com/simonvetter/modbus"},
		{name: "test on a test peer", importer: "cmd/penstockd", imported: "github.com/simonvetter/modbus", test: true, fine: true},
		{name: "daemon on the laboratory", importer: "cmd/penstockd", imported: module + "internal/testnet"},
	} {
		t.Run(row.name, func(t *testing.T) {
			n := node{ImportPath: module + row.importer, Imports: []string{row.imported}}
			if row.test {
				n.Imports, n.TestImports = nil, n.Imports
			}
			if found := wrong(&n); (len(found) == 0) != row.fine {
				t.Errorf("found %q, want none to be %v", found, row.fine)
			}
		})
	}
}
