// Command bench measures Penstock beside what else forwards frames and queues packets on the
// same machine, in the same run, and prints the result as Markdown. It lays everything that it
// needs in network namespaces and removes it afterwards. It needs root and Go; the comparison
// with a queue reader in C also needs gcc and libnetfilter_queue.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// bench is one run.
type bench struct {
	ctx        context.Context
	env        *environment
	rounds     int
	time       time.Duration // of each round of each contender
	trips      int
	injections int                  // of each failure
	failure    string               // what the names of the failures injected have in common, "" for all of them
	suricata   string               // the program's name or path
	dir        string               // for what is built
	daemon     string               // a built penstockd
	lab        []func(*testnet.Lab) // options of the labs that lines are laid in
	report     report
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == peerCommand {
		exit(peer(os.Args[2:]))
	}
	exit(run(os.Args[1:]))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// part is one of the measurements, by the name that -only knows.
type part struct {
	name    string
	measure func(*bench) error
	asked   bool // takes many minutes, and is measured only where it is named
}

func parts() []part {
	return []part{
		{name: "forwarding", measure: (*bench).forwarding},
		{name: "scale", measure: (*bench).scale},
		{name: "trips", measure: (*bench).roundTrips},
		{name: "flood", measure: (*bench).flood},
		{name: "cyclic", measure: (*bench).cyclicIO},
		{name: "program", measure: (*bench).program},
		{name: "outages", measure: (*bench).outages, asked: true},
	}
}

// names is a flag of names with commas between them.
type names []string

func (n *names) String() string { return strings.Join(*n, ",") }

func (n *names) Set(s string) error {
	*n = strings.Split(s, ",")
	return nil
}

func run(args []string) error {
	b := &bench{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&b.rounds, "rounds", 7, "rounds, in which everything compared takes a turn")
	flags.DurationVar(&b.time, "time", time.Second, "how long a turn of forwarding takes")
	flags.IntVar(&b.trips, "trips", 5000, "round trips in a turn")
	flags.IntVar(&b.injections, "injections", 20, "how often each failure is injected (part outages)")
	flags.StringVar(&b.failure, "failure", "", "inject only failures whose names hold this `text`, and nothing beside it (part outages)")
	flags.StringVar(&b.daemon, "daemon", "", "a built penstockd `file`; without it, it is built")
	flags.StringVar(&b.suricata, "suricata", "suricata", "the Suricata `program` to compare with, where there is one")
	write := flags.String("write", "", "also put the tables into this `file`, between its markers")
	var only names
	flags.Var(&only, "only", "measure only these `parts`, with commas: "+partNames())
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := testnet.Usable(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	b.ctx = ctx
	err := b.measure(only)
	text := b.report.String()
	fmt.Print(text)
	if err != nil {
		return err
	}
	if *write != "" {
		return writeDocument(*write, heading(flags)+text)
	}
	return nil
}

func partNames() string {
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}

// measure builds the daemon and runs the parts. Each part takes down what it laid.
func (b *bench) measure(only []string) error {
	b.env = &environment{out: os.Stderr}
	defer b.env.close()
	var err error
	if b.dir, err = os.MkdirTemp("", "penstock-bench-"); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	b.env.Cleanup(func() { os.RemoveAll(b.dir) })
	if b.daemon == "" {
		if b.daemon, err = plant.Build(b.dir, "github.com/penstock-ot/penstock/cmd/penstockd"); err != nil {
			return err
		}
	}
	for _, p := range parts() {
		if len(only) > 0 && !slices.Contains(only, p.name) || len(only) == 0 && p.asked {
			continue
		}
		b.env.Logf("measuring %s", p.name)
		mark := b.env.mark()
		err := p.measure(b)
		b.env.closeTo(mark)
		if err != nil {
			return fmt.Errorf("measure %s: %w", p.name, err)
		}
	}
	return nil
}

// complain tells of an error that is no reason to stop.
func (b *bench) complain(what string, err error) {
	if err != nil {
		b.env.Logf("%s: %v", what, err)
	}
}
