package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/plant/dnp3"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// dnp3Steps try what the policy says of the pump: hmi-1 may poll it, hear from it, and latch its
// outputs 0 to 3 by SELECT and OPERATE.
func (l *line) dnp3Steps() []step {
	latch := func(i uint32) []byte { return dnp3.Controls(dnp3.Latch(i, true)) }
	trip := dnp3.Controls(dnp3.CROB{Index: 3, Code: dnp3.Trip, Count: 1, On: 100})
	return []step{
		{
			what:   "hmi-1 polls pump-rtu, and sets its time",
			try:    l.beginPump,
			reason: func() (string, error) { return l.conduitState(conduitPump, api.StateInspecting) },
		},
		{what: "pump-rtu reports an event unasked", try: l.pumpReports},
		l.control("hmi-1 selects and operates output 2", dnp3.Operate, verdict.ReasonNone, 2,
			func() (string, error) { return answered(l.scada.SelectOperate(latch(2))) }),
		l.control("hmi-1 selects output 9", dnp3.Select, verdict.ReasonPointNotPermitted, 9,
			l.master(func(m *dnp3.Master) error { return m.SelectOperate(latch(9)) })),
		l.control("hmi-1 selects outputs 1 and 9", dnp3.Select, verdict.ReasonPointNotPermitted, 1,
			l.master(func(m *dnp3.Master) error { return m.SelectOperate(append(latch(1), latch(9)...)) })),
		l.control("hmi-1 selects a trip of output 3", dnp3.Select, verdict.ReasonValueNotPermitted, 3,
			l.master(func(m *dnp3.Master) error { return m.SelectOperate(trip) })),
		l.control("hmi-1 operates output 1 directly, unselected", dnp3.DirectOperate, verdict.ReasonFunctionNotPermitted, 1,
			l.master(func(m *dnp3.Master) error { return m.Control(dnp3.DirectOperate, latch(1)) })),
		l.control("hmi-1 restarts pump-rtu", dnp3.ColdRestart, verdict.ReasonFunctionNotPermitted, 1,
			l.master(func(m *dnp3.Master) error { _, err := m.Do(dnp3.ColdRestart); return err })),
		{what: "hmi-1's session with pump-rtu has noticed nothing", try: l.pollPump},
	}
}

// beginPump opens the session that stays open, as a master begins one.
func (l *line) beginPump() (string, error) {
	if l.scada != nil {
		l.scada.Close()
	}
	m, err := plant.DialOutstation("tcp", l.HMI, l.pump, portDNP3, dnp3.MasterConfig{Timeout: patience})
	if err != nil {
		return "", err
	}
	l.scada = m
	return answered(m.Begin())
}

func (l *line) pollPump() (string, error) {
	if l.scada == nil {
		return "", errors.New("there is no session with pump-rtu")
	}
	_, err := l.scada.Integrity()
	return answered(err)
}

// pumpReports changes an input of the pump, and waits until hmi-1 has confirmed to have heard of it.
func (l *line) pumpReports() (string, error) {
	if l.scada == nil {
		return "", errors.New("there is no session with pump-rtu")
	}
	heard := len(l.scada.Unsolicited())
	l.rtu.Update(1, 3, 1)
	err := testnet.WaitFor("the event", patience, func() (bool, error) {
		return len(l.scada.Unsolicited()) > heard && l.rtu.Unconfirmed(1) == 0, nil
	})
	if err != nil {
		return "", err
	}
	return "hmi-1 confirmed it", nil
}

// master opens a connection of its own from hmi-1 to pump-rtu: one that was refused is over.
func (l *line) master(use func(*dnp3.Master) error) func() (string, error) {
	return func() (string, error) {
		m, err := plant.DialOutstation("tcp", l.HMI, l.pump, portDNP3, dnp3.MasterConfig{Timeout: patience})
		if err != nil {
			return "", err
		}
		defer m.Close()
		return answered(use(m))
	}
}

func answered(err error) (string, error) {
	if err != nil {
		return "", err
	}
	return "pump-rtu answered", nil
}

// control is a step that operates an output, permitted or not, after which pump-rtu has to have
// executed just that, or nothing.
func (l *line) control(what string, f dnp3.Function, denied verdict.Reason, output int, try func() (string, error)) step {
	executed := 0
	return step{
		what: what, denied: denied,
		try: func() (string, error) {
			executed = len(l.rtu.Executed())
			if l.scada == nil {
				return "", errors.New("there is no session with pump-rtu")
			}
			return try()
		},
		told: func(e *event.Event) bool {
			return e.Conduit == conduitPump && e.Source == "hmi-1" && e.Destination == "pump-rtu" && e.Operation == f.String()
		},
		must: func() error {
			time.Sleep(50 * time.Millisecond) // what has left the appliance has arrived
			return l.executed(executed, denied == verdict.ReasonNone, output)
		},
	}
}

// executed checks the outstation itself: what it has executed since.
func (l *line) executed(since int, permitted bool, output int) error {
	list := l.rtu.Executed()[since:]
	if !permitted {
		if len(list) > 0 {
			return fmt.Errorf("pump-rtu executed %v", list)
		}
		return nil
	}
	if len(list) != 1 || int(list[0].Index) != output || l.rtu.Value(10, output) != 1 {
		return fmt.Errorf("pump-rtu executed %v, want output %d alone", list, output)
	}
	return nil
}
