package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-ot/penstock/internal/api"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show ports, policy, conduits, outages and queues",
		Args:  cobra.NoArgs,
		RunE: a.run(func(c *cobra.Command, _ []string) error {
			s, err := a.client().Status(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.stdout, s)
			}
			return printStatus(a.stdout, s)
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// printStatus prints what is wrong first: whoever looks may not read to the end.
func printStatus(w io.Writer, s api.Status) error {
	var b strings.Builder
	for _, warning := range s.Warnings {
		fmt.Fprintf(&b, "WARNING: %s\n", clean(warning))
	}
	for _, t := range []table{summary(s), ports(s), conduits(s), assurance(s), queues(s), failures(s)} {
		if len(t.rows) < 2 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		if err := t.align(&b); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func summary(s api.Status) table {
	var t table
	t.add("appliance", s.Name)
	t.add("penstockd", fmt.Sprintf("%s, running since %s", or(s.Version), stamp(s.Started)))
	t.add("mode", or(s.Mode))
	if s.Policy.Version == 0 && s.Policy.Hash == "" {
		t.add("policy", "none")
	} else {
		t.add("policy", fmt.Sprintf("version %d of %s, sha256 %s, in force since %s", s.Policy.Version, s.Policy.Site, short(s.Policy.Hash), stamp(s.Policy.Since)))
	}
	if !s.Policy.ConfirmBy.IsZero() {
		t.add("", fmt.Sprintf("rolled back at %s unless confirmed: penstock policy confirm", stamp(s.Policy.ConfirmBy)))
	}
	t.add("inspection", fmt.Sprintf("%s; uninspected so far: %d frames, %s", inspection(s.Outage.State), s.Outage.UninspectedFrames, seconds(s.Outage.UninspectedSeconds)))
	if s.IO.Open > 0 || s.IO.Refused > 0 {
		t.add("cyclic I/O", fmt.Sprintf("%d connections open, %d permitted and not let through", s.IO.Open, s.IO.Refused))
	}
	t.add("events", fmt.Sprintf("%d published, %d dropped, %d missed by slow readers", s.Events.Published, s.Events.Dropped, s.Events.Missed))
	return t
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

// inspection puts the state of the whole appliance into words.
func inspection(s api.OutageState) string {
	switch s {
	case api.StateOpen:
		return "OUTAGE: conduits that open pass uninspected, those that close are shut"
	case api.StateClosed:
		return "OUTAGE: conduits that close are shut"
	}
	return string(s)
}

func ports(s api.Status) table {
	var t table
	t.add("PORT", "SIDE", "LINK", "XDP")
	for _, p := range s.Ports {
		t.add(p.Name, p.Side, p.Link, p.XDP)
	}
	return t
}

func conduits(s api.Status) table {
	var t table
	t.add("CONDUIT", "PROTOCOL", "MODE", "ON OUTAGE", "ALLOWED", "DENIED", "STATE")
	for _, c := range s.Conduits {
		t.add(c.Name, or(c.Protocol), c.Mode, c.OnOutage, unsigned(c.Allowed), unsigned(c.Denied), conduitState(c.State))
	}
	return t
}

// assurance is what the conduits' owners have stated, by which their choices are to be judged.
func assurance(s api.Status) (t table) {
	t.add("CONDUIT", "SL-T", "ESSENTIAL", "SECOND PATH", "WAIVER")
	for _, c := range s.Conduits {
		if c.SLTarget == "" {
			continue
		}
		essential := "no"
		if c.Essential {
			essential = "yes"
		}
		t.add(c.Name, c.SLTarget, essential, or(c.SecondPath), waiver(c.Waiver))
	}
	return t
}

func waiver(w *api.WaiverStatus) string {
	switch {
	case w == nil:
		return or("")
	case w.Lapsed:
		return fmt.Sprintf("EXPIRED on %s, of %s: %s", w.Expires, w.Owner, w.Compensating)
	}
	return fmt.Sprintf("until %s, of %s: %s", w.Expires, w.Owner, w.Compensating)
}

func conduitState(s api.OutageState) string {
	switch s {
	case api.StateAddressOnly:
		return "enforced by address and port only"
	case api.StateOpen:
		return "OPEN: passes uninspected"
	case api.StateClosed:
		return "CLOSED: nothing passes"
	}
	return string(s)
}

func queues(s api.Status) table {
	var t table
	t.add("QUEUE", "PACKETS", "DROPPED", "WAITING")
	for _, q := range s.Queues {
		t.add(unsigned(uint64(q.Number)), unsigned(q.Packets), unsigned(q.Dropped), unsigned(q.Depth))
	}
	return t
}

// failures are what has failed and what is failing.
func failures(s api.Status) (t table) {
	t.add("FAILURE", "NOW", "TIMES", "SINCE", "UNTIL", "DETAIL")
	for _, f := range s.Outage.Failures {
		now := "over"
		if f.Active {
			now = "FAILING"
		}
		t.add(string(f.Class), now, unsigned(f.Count), stamp(f.Since), stamp(f.Until), f.Detail)
	}
	return t
}
