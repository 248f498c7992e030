package datapath

import (
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// setLink changes one of the box's ports.
func setLink(t *testing.T, lab *testnet.Lab, name string, change func(netlink.Link) error) {
	t.Helper()
	err := lab.Box.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return change(l)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUndelivered sends what the policy permits to a port that is down, and what is longer than the
// port takes: the verdict counts it as allowed, and this as not delivered.
func TestUndelivered(t *testing.T) {
	require(t)
	lab := testnet.New(t)
	d := openWith(t, plan(), Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: time.Hour, Flows: 1024})
	attach(t, lab, d)
	t.Cleanup(func() {
		if err := Remove(d.config.PinDir); err != nil {
			t.Error(err)
		}
	})
	if _, watched, err := d.Undelivered(policy.SideA); watched || err != nil {
		t.Errorf("before anybody watches: watched %v, %v", watched, err)
	}
	a, b := boxPorts(t, lab)
	if err := lab.Box.Do(func() error { return d.WatchDelivery(a, b) }); err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{testnet.PortA, testnet.PortB} {
		setLink(t, lab, port, netlink.LinkSetUp)
	}
	for host, name := range map[*testnet.Host]string{lab.Cell: "cell", lab.Plant: "plant"} {
		if err := testnet.WaitCarrier(host, testnet.HostInterface, 10*time.Second); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	near, err := lab.Tap(lab.Plant, testnet.HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	far, err := lab.Tap(lab.Cell, testnet.HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	send := func(p packet, n int) {
		t.Helper()
		for range n {
			if err := near.Send(p.bytes()); err != nil {
				t.Fatal(err)
			}
		}
	}
	await := func(want Undelivered) {
		t.Helper()
		var got Undelivered
		if testnet.WaitFor("the counter", 10*time.Second, func() (bool, error) {
			got, _, err = d.Undelivered(policy.SideA)
			return got.Refused == want.Refused && got.Dropped >= want.Dropped, err
		}) != nil {
			t.Fatalf("%+v are counted as not delivered, want %+v", got, want)
		}
		if other, _, err := d.Undelivered(policy.SideB); other != (Undelivered{}) || err != nil {
			t.Errorf("%+v are counted on the other port (%v)", other, err)
		}
	}
	allowed := func() uint64 { return d.countOf(t, "profinet").Allowed }

	send(raw(macHMI, macPLC, 0x8892, 46), 2)
	if _, err := far.Await(10*time.Second, func([]byte) bool { return true }); err != nil {
		t.Fatal(err)
	}
	await(Undelivered{})

	setLink(t, lab, testnet.PortA, func(l netlink.Link) error { return netlink.LinkSetMTU(l, 576) })
	send(raw(macHMI, macPLC, 0x8892, 1200), 3)
	await(Undelivered{Refused: 3})
	if got := allowed(); got != 5 {
		t.Errorf("%d frames are counted as allowed, want 5", got)
	}

	setLink(t, lab, testnet.PortA, netlink.LinkSetDown)
	send(raw(macHMI, macPLC, 0x8892, 46), 4)
	await(Undelivered{Refused: 7})

	setLink(t, lab, testnet.PortA, netlink.LinkSetUp)
	err = lab.Cell.Do(func() error {
		l, err := netlink.LinkByName(testnet.HostInterface)
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(l)
	})
	if err != nil {
		t.Fatal(err)
	}
	send(raw(macHMI, macPLC, 0x8892, 46), 5)
	await(Undelivered{Refused: 7, Dropped: 5})
}
