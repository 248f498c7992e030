package bridge_test

import (
	"os"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestLookSeesWhatIsTakenAway takes away one thing after the other and puts it back. A look that keeps its
// sockets, and the generation of the rules, has to see each change, and no look may leave anything open.
func TestLookSeesWhatIsTakenAway(t *testing.T) {
	lab := testnet.New(t)
	line := openLine(t, lab, layoutIn(lab))
	bringUp(t, line)
	inside := func(f func() error) {
		t.Helper()
		if err := line.Do(f); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name string) netlink.Link {
		t.Helper()
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	look := func(when string, want ...string) {
		t.Helper()
		c, err := line.Look()
		if err != nil || !slices.Equal(c.Broken, want) || c.Present != [2]bool{true, true} {
			t.Errorf("%s: %+v, %v; want broken %q", when, c, err, want)
		}
	}
	foreign := func(do func(*nftables.Conn, *nftables.Table)) func() error {
		return func() error {
			conn, err := nftables.New()
			if err != nil {
				return err
			}
			do(conn, &nftables.Table{Name: "foreign", Family: nftables.TableFamilyIPv4})
			return conn.Flush()
		}
	}
	look("up")
	look("looked at again")
	open := descriptors(t)
	for range 3 {
		if err := line.RemoveRule(); err != nil {
			t.Fatal(err)
		}
		look("without rules", "netfilter rules")
		look("without rules, looked at again", "netfilter rules")
		if _, err := line.AddRule(); err != nil {
			t.Fatal(err)
		}
		look("with rules")
		inside(foreign(func(c *nftables.Conn, table *nftables.Table) { c.AddTable(table) }))
		look("with a table of somebody else")
		inside(foreign(func(c *nftables.Conn, table *nftables.Table) { c.DelTable(table) }))
		inside(func() error { return netlink.LinkSetNoMaster(link(testnet.PortA)) })
		look("a port out of the bridge", "place of "+testnet.PortA+" in the bridge")
		inside(func() error { return netlink.LinkSetMaster(link(testnet.PortA), link(bridgeName)) })
		inside(func() error { return netlink.LinkSetDown(link(testnet.PortB)) })
		look("a port down", testnet.PortB+" up")
		inside(func() error { return netlink.LinkSetUp(link(testnet.PortB)) })
		inside(func() error { return netlink.LinkSetDown(link(bridgeName)) })
		look("the bridge down", bridgeName+" up")
		inside(func() error { return netlink.LinkSetUp(link(bridgeName)) })
		look("all back")
	}
	if now := descriptors(t); now != open {
		t.Errorf("%d descriptors are open, %d before", now, open)
	}
	inside(func() error { return netlink.LinkDel(link(bridgeName)) })
	look("without a bridge", "bridge "+bridgeName)
}

// TestLookAtNoLine is an error, and leaves nothing open.
func TestLookAtNoLine(t *testing.T) {
	lab := testnet.New(t)
	line := openLine(t, lab, layoutIn(lab))
	before := descriptors(t)
	if _, err := line.Look(); err == nil {
		t.Error("a line that does not exist could be looked at")
	}
	if now := descriptors(t); now != before {
		t.Errorf("%d descriptors are open, %d before", now, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
