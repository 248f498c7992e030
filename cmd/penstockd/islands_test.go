package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestIslandClosesAZoneAndOpensItAgain: of the connections to a zone only the essential one goes on,
// over a restart of the daemon, too; by command and by timer everything is as before.
func TestIslandClosesAZoneAndOpensItAgain(t *testing.T) {
	p := lay(t, plant.Options{Policy: site{conduits: []string{
		modbusConduit("essential", openPort, "on_outage: open", "on_deny: reset", "essential: true"),
		modbusConduit("poll", closedPort, "on_outage: closed", "on_deny: reset"),
		plainConduit("plain", "tcp", plainPort),
	}}.String()})
	o := openOutage(t, p)
	works := func(port int) bool {
		conn, err := trySocket(p.HMI, p.Filler, port, 300*time.Millisecond)
		if err != nil {
			return false
		}
		defer conn.Close()
		return ask(conn, mbap(2, 1, readRegisters(0, 1)), time.Second) == nil
	}
	onlyEssential := func(when string) {
		t.Helper()
		for port, want := range map[int]bool{openPort: true, closedPort: false, plainPort: false} {
			if want { // it may take a machine that is busy more than one attempt
				eventually(t, fmt.Sprintf("%s: port %d to work", when, port), func() bool { return works(port) })
			} else if works(port) {
				t.Errorf("%s: port %d works", when, port)
			}
		}
		if err := ask(o.conns[openPort], mbap(3, 1, readRegisters(0, 1)), patience); err != nil {
			t.Errorf("%s: the essential connection from before: %v", when, err)
		}
	}
	everything := func(when string) {
		t.Helper()
		for _, port := range []int{openPort, closedPort, plainPort} {
			eventually(t, when, func() bool { return works(port) })
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := p.Client()
	before, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CloseZone(ctx, "cell", 0); err != nil {
		t.Fatal(err)
	}
	onlyEssential("closed")
	if _, err := p.AwaitEvent(patience, func(e *event.Event) bool { return e.Layer == event.LayerPerson }); err != nil {
		t.Errorf("an event says that somebody closed a zone: %v", err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	start(t, p)
	onlyEssential("closed, after a restart")
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Islands) != 1 || status.Islands[0].Zone != "cell" || status.Policy.Version != before.Policy.Version {
		t.Errorf("closed are %+v under version %d, before it was %d", status.Islands, status.Policy.Version, before.Policy.Version)
	}
	if _, err := client.OpenZone(ctx, "cell"); err != nil {
		t.Fatal(err)
	}
	everything("opened by command")
	const length = 8 * time.Second // a busy machine may take some of them until it has looked
	if _, err := client.CloseZone(ctx, "room", length); err != nil {
		t.Fatal(err)
	}
	onlyEssential("closed for a time")
	if err := testnet.WaitFor("the time to be over", length+patience, func() (bool, error) {
		status, err := p.Status()
		return !slices.ContainsFunc(status.Islands, func(i api.Island) bool { return i.Zone == "room" }), err
	}); err != nil {
		t.Error(err)
	}
	everything("opened by timer")
	if _, err := client.CloseZone(ctx, "nowhere", 0); err == nil {
		t.Error("a zone that does not exist was closed")
	}
}

// TestAClosedZoneKeepsNoTrialInForce: the policy before the trial cannot close the zone that somebody
// closed meanwhile, and is gone back to all the same, with a word about it.
func TestAClosedZoneKeepsNoTrialInForce(t *testing.T) {
	p, k := changing(t, true)
	p.tell = func(string) {}
	trial := []byte(strings.ReplaceAll(string(sitePolicy("trial")), "annexe", "barn"))
	if _, err := p.ApplyPolicy(t.Context(), api.Submission{Name: "trial", Raw: trial, Who: "test", ConfirmWithin: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.CloseZone(t.Context(), "barn", "test", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := p.RollbackPolicy(t.Context(), 0, "not confirmed in time"); err != nil {
		t.Fatalf("a closed zone keeps the trial in force: %v", err)
	}
	if k.sites[len(k.sites)-1] != "one" || len(p.islandStatus(time.Now())) != 0 || !slices.ContainsFunc(p.notes, func(n string) bool { return strings.Contains(n, "zones that were closed are open") }) {
		t.Errorf("in force is %v, closed %v, notes %q", k.sites, p.islandStatus(time.Now()), p.notes)
	}
}

// TestAFileThatIsOnlyLookedAtOpensNoZone: what a restart compares with the policy in force may lack the zone that is
// closed, which stays closed, and can be opened.
func TestAFileThatIsOnlyLookedAtOpensNoZone(t *testing.T) {
	before, _ := changing(t, true)
	before.tell = func(string) {}
	if _, err := before.CloseZone(t.Context(), "annexe", "test", 0); err != nil {
		t.Fatal(err)
	}
	before.close()
	p := &policies{appliance: before.appliance, file: before.file, store: before.store, log: before.log, tell: before.tell}
	if err := os.WriteFile(p.file, []byte(strings.ReplaceAll(string(sitePolicy("one")), "annexe", "barn")), 0o600); err != nil {
		t.Fatal(err)
	}
	c, v, err := p.start()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.first(&kernel{}, c, v); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	if closed := p.islandStatus(time.Now()); len(closed) != 1 || closed[0].Zone != "annexe" {
		t.Errorf("closed are %+v, notes %q", closed, p.notes)
	}
	if _, err := p.OpenZone(t.Context(), "annexe", "test"); err != nil {
		t.Error(err)
	}
}
