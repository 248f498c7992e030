// Command demo shows what the appliance does, and checks it. It lays the filling line of the
// example policy in network namespaces, puts a real penstockd between its cell and its
// supervision, tries with other people's Modbus clients and servers, and with a DNP3 master and
// outstation that know nothing of the appliance's dissector, what the policy permits and what it
// denies, and prints for each what the policy says, what was seen, and the reason that `penstock
// events` tells. It leaves nothing behind.
//
// It exits 0 only if everything agrees. It needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-ot/penstock/internal/testnet"
)

func main() {
	o := options{}
	flag.StringVar(&o.programs, "programs", "build", "directory of the built penstockd and penstock")
	flag.StringVar(&o.policy, "policy", "configs/policy.yaml", "the policy of the filling line")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// options say where things lie.
type options struct {
	programs string
	policy   string
}

var (
	errInterrupted = errors.New("interrupted")
	errDisagree    = errors.New("not everything is as the policy says")
)

// run demonstrates and cleans up, and looks whether the machine is as it was.
func run(ctx context.Context, o options) error {
	if err := testnet.Usable(); err != nil {
		return err
	}
	before, err := testnet.TakeInventory()
	if err != nil {
		return err
	}
	began := time.Now()
	shown := newTable(os.Stdout)
	env := &environment{}
	err = demonstrate(ctx, env, shown, o)
	err = errors.Join(err, env.clean(), nothingLeft(before))
	if err == nil && shown.disagreed > 0 {
		err = errDisagree
	}
	shown.summary(time.Since(began), err)
	return err
}

// demonstrate lays the line, takes the steps, and takes the appliance apart.
func demonstrate(ctx context.Context, env *environment, shown *table, o options) error {
	l, err := layLine(env, o)
	if err != nil {
		return err
	}
	shown.header(o.policy)
	for _, act := range []struct {
		title string
		steps []step
	}{
		{"What the conduits permit, and what goes beyond them", l.conduitSteps()},
		{"A pump's outstation (DNP3), message by message", l.dnp3Steps()},
		{"Who they are that speak", l.identitySteps()},
		{"Somebody flushes the appliance's nftables ruleset", l.outageSteps()},
		{"The appliance is taken apart", l.endSteps()},
	} {
		shown.title(act.title)
		for _, s := range act.steps {
			if ctx.Err() != nil {
				return errInterrupted
			}
			shown.row(l.take(s))
		}
	}
	return nil
}

// nothingLeft compares the machine with what it was. The kernel takes a moment to let go of
// interfaces.
func nothingLeft(before testnet.Inventory) error {
	var left []string
	err := testnet.WaitFor("the machine to be as it was", 15*time.Second, func() (bool, error) {
		now, err := testnet.TakeInventory()
		left = slices.DeleteFunc(now.Since(before), belongsToAnother)
		return len(left) == 0, err
	})
	if len(left) > 0 {
		return fmt.Errorf("left behind: %q", left)
	}
	return err
}

// belongsToAnother tells what another process's laboratory has made meanwhile: everything of a
// laboratory is called pstest-PID-….
func belongsToAnother(entry string) bool {
	_, rest, found := strings.Cut(entry, "pstest-")
	return found && !strings.HasPrefix(rest, fmt.Sprintf("%d-", os.Getpid()))
}
