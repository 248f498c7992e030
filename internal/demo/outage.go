package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/simonvetter/modbus"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// outageSteps take away the rule that leads packets to inspection, again and again, for the daemon
// puts it back. What has to be inspected then has no verdict, and the exit gate lets nothing out that
// has none; the rest never was there.
func (l *line) outageSteps() []step {
	writes, flushing := 0, func() error { return nil }
	return []step{
		{what: "hmi-1 has a connection to filler-plc, and reads", try: l.keepModbus},
		{
			what: "the ruleset is flushed over and over; hmi-1 writes", denied: verdict.ReasonNoVerdict,
			try: func() (string, error) {
				writes = l.device.Writes()
				flushing = l.keepFlushing()
				return l.writeUntilStopped()
			},
			reason: l.gateStopped,
			must: func() error {
				if got := l.device.Writes(); got != writes {
					return fmt.Errorf("%d writes reached the device", got-writes)
				}
				return nil
			},
		},
		{what: "the historian, by address and port only, goes on", try: l.askHeld},
		{what: "filler-plc announces itself by LLDP", try: l.announces},
		{
			what: "nobody flushes any more, and hmi-1 reads", try: func() (string, error) {
				l.open.Close()
				if err := flushing(); err != nil {
					return "", err
				}
				return l.keepModbus()
			},
		},
		{
			what: "the daemon is restarted, and hmi-1 reads",
			try: func() (string, error) {
				l.open.Close()
				if err := errors.Join(l.Stop(), l.Start()); err != nil {
					return "", err
				}
				l.lastEvent = 0 // each run of the daemon counts from 1
				return l.keepModbus()
			},
		},
		{what: "hmi-1 connects to pump-rtu again, and polls", try: l.beginPump},
		{what: "the historian has noticed nothing of all this", try: l.askHeld},
	}
}

// writeUntilStopped asks for a denied write until the exit gate has stopped one. The daemon puts the
// rules back meanwhile, and what meets them then is refused by inspection, which is as good.
func (l *line) writeUntilStopped() (string, error) {
	const attempts = 200
	var err error
	for range attempts {
		if err = l.open.WriteRegister(100, 1); err == nil {
			return "filler-plc answered", nil
		}
		if _, running := l.gateStopped(); running == nil {
			break
		}
	}
	return "", err
}

// keepFlushing flushes the ruleset, faster than it is put back, until the function that it returns
// is called.
func (l *line) keepFlushing() (stop func() error) {
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-done:
				ended <- nil
				return
			default:
			}
			if err := l.flushRules(); err != nil {
				ended <- fmt.Errorf("flush the ruleset: %w", err)
				return
			}
		}
	}()
	return func() error {
		close(done)
		return <-ended
	}
}

// endSteps take the appliance apart.
func (l *line) endSteps() []step {
	return []step{{
		what: "penstockd down gives the ports back",
		try: func() (string, error) {
			if err := errors.Join(l.Stop(), l.Down()); err != nil {
				return "", err
			}
			return "no namespace, no bridge", l.givenBack()
		},
	}}
}

func (l *line) keepModbus() (seen string, err error) {
	if l.open, err = plant.Dial(l.HMI, l.Filler, portModbus, patience); err != nil {
		return "", err
	}
	return l.readKept()
}

func (l *line) readKept() (string, error) {
	if _, err := l.open.ReadRegisters(0, 10, modbus.HOLDING_REGISTER); err != nil {
		return "", err
	}
	return "filler-plc answered", nil
}

// gateStopped finds that the exit gate stopped frames; there is no event for each of them.
func (l *line) gateStopped() (string, error) {
	s, err := l.status()
	if err != nil {
		return "", err
	}
	stopped := func(w string) bool { return strings.Contains(w, "exit gate stopped") }
	if !slices.ContainsFunc(s.Warnings, stopped) {
		return "", fmt.Errorf("penstock status does not say that the exit gate stopped anything: %q", s.Warnings)
	}
	return verdict.ReasonNoVerdict.String() + " (status)", nil
}

// givenBack checks that the appliance's namespace is gone, and the ports where they were.
func (l *line) givenBack() error {
	names, err := bridge.NamespaceNames()
	if err != nil {
		return err
	}
	if slices.Contains(names, l.netns) {
		return fmt.Errorf("the namespace %s is still there", l.netns)
	}
	return l.Box.Do(func() error {
		for _, port := range []string{testnet.PortA, testnet.PortB} {
			if _, err := net.InterfaceByName(port); err != nil {
				return fmt.Errorf("find port %s where it was: %w", port, err)
			}
		}
		return nil
	})
}
