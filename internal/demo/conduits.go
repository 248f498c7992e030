package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/simonvetter/modbus"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/verdict"
)

const (
	conduitFiller    = "hmi-to-filler"
	conduitPump      = "scada-to-pump"
	conduitHistorian = "historian-pull"
)

// conduitSteps try what the policy's conduits say.
func (l *line) conduitSteps() []step {
	steps := []step{
		{
			what: "hmi-1 reads registers 0-9 of filler-plc",
			try: l.modbus(func(c *modbus.ModbusClient) error {
				_, err := c.ReadRegisters(0, 10, modbus.HOLDING_REGISTER)
				return err
			}),
		},
		l.write("hmi-1 writes 1200 to register 45 (function 6)", "write_single_register", verdict.ReasonNone, 1200, 45,
			l.modbus(func(c *modbus.ModbusClient) error { return c.WriteRegister(45, 1200) })),
		l.write("hmi-1 writes registers 40-49 (function 16)", "write_multiple_registers", verdict.ReasonNone, 9, 49,
			l.modbus(func(c *modbus.ModbusClient) error {
				return c.WriteRegisters(40, []uint16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
			})),
		l.write("hmi-1 writes to register 100", "write_single_register", verdict.ReasonAddressNotPermitted, 0, 100,
			l.modbus(func(c *modbus.ModbusClient) error { return c.WriteRegister(100, 1) })),
		l.write("hmi-1 writes registers 48-51, beyond its range", "write_multiple_registers", verdict.ReasonAddressNotPermitted, 8, 48,
			l.modbus(func(c *modbus.ModbusClient) error { return c.WriteRegisters(48, []uint16{7, 7, 7, 7}) })),
		l.write("hmi-1 writes 1501 to register 45", "write_single_register", verdict.ReasonValueNotPermitted, 5, 45,
			l.modbus(func(c *modbus.ModbusClient) error { return c.WriteRegister(45, 1501) })),
		l.write("hmi-1 writes coil 1 (function 5)", "write_single_coil", verdict.ReasonFunctionNotPermitted, 5, 45,
			l.modbus(func(c *modbus.ModbusClient) error { return c.WriteCoil(1, true) })),
		{
			what:   "hmi-1 reads from unit 2",
			denied: verdict.ReasonUnitNotPermitted,
			try: l.modbus(func(c *modbus.ModbusClient) error {
				if err := c.SetUnitId(2); err != nil {
					return err
				}
				_, err := c.ReadRegisters(0, 1, modbus.HOLDING_REGISTER)
				return err
			}),
			told: message("read_holding_registers"),
		},
	}
	steps = append(steps, l.mbpollSteps()...)
	return append(steps,
		step{
			what:   fmt.Sprintf("hmi-1 connects to filler-plc's port %d", portUnlisted),
			denied: verdict.ReasonNoConduit,
			try: func() (string, error) {
				conn, err := dial(l.HMI, l.Filler, portUnlisted)
				if err == nil {
					conn.Close()
				}
				return "", err
			},
			told: func(e *event.Event) bool {
				return e.Source == "hmi-1" && e.Destination == "filler-plc" && strings.HasSuffix(e.DestinationAddress, fmt.Sprint(":", portUnlisted))
			},
		},
		step{
			what:   "the historian connects, from behind a router",
			try:    l.holdHistorian,
			reason: func() (string, error) { return l.conduitState(conduitHistorian, api.StateAddressOnly) },
		},
	)
}

// modbus opens a connection of its own from hmi-1 to filler-plc: one that was refused may be over.
func (l *line) modbus(use func(*modbus.ModbusClient) error) func() (string, error) {
	return func() (string, error) {
		client, err := plant.Dial(l.HMI, l.Filler, portModbus, patience)
		if err != nil {
			return "", err
		}
		defer client.Close()
		if err := use(client); err != nil {
			return "", err
		}
		return "filler-plc answered", nil
	}
}

// write is a step that writes, permitted or not, after which filler-plc has to hold a value in a
// register. Writes are told of either way.
func (l *line) write(what, operation string, denied verdict.Reason, value, register uint16, try func() (string, error)) step {
	reached := 0
	return step{
		what: what, denied: denied, told: message(operation),
		try: func() (string, error) {
			reached = l.device.Writes()
			return try()
		},
		must: func() error { return l.holds(value, register, denied == verdict.ReasonNone, reached) },
	}
}

// holds checks the device itself: the register's value, and whether a write reached it since.
func (l *line) holds(value, register uint16, permitted bool, before int) error {
	if got := l.device.Register(register); got != value {
		return fmt.Errorf("register %d holds %d, want %d", register, got, value)
	}
	if reached := l.device.Writes() > before; reached != permitted {
		return fmt.Errorf("a write reached the device: %v, want %v", reached, permitted)
	}
	return nil
}

// message matches the event of an operation on the Modbus conduit.
func message(operation string) func(*event.Event) bool {
	return func(e *event.Event) bool {
		return e.Conduit == conduitFiller && e.Source == "hmi-1" && e.Destination == "filler-plc" && e.Operation == operation
	}
}

// mbpollSteps are a second client, written by somebody else again, where it is installed.
func (l *line) mbpollSteps() []step {
	if _, err := exec.LookPath("mbpoll"); err != nil {
		return nil
	}
	filler := l.Filler.Address().String()
	return []step{
		{what: "hmi-1 reads registers 0-9, by mbpoll", try: l.mbpoll("-r", "0", "-c", "10", filler)},
		l.write("hmi-1 writes 900 to register 60, by mbpoll", "write_single_register", verdict.ReasonNone, 900, 60,
			l.mbpoll("-r", "60", filler, "900")),
		l.write("hmi-1 writes to register 61, by mbpoll", "write_single_register", verdict.ReasonAddressNotPermitted, 0, 61,
			l.mbpoll("-r", "61", filler, "1")),
	}
}

// mbpoll runs it once on hmi-1. Its status is 0 only if the device confirmed.
func (l *line) mbpoll(args ...string) func() (string, error) {
	return func() (string, error) {
		proc, err := l.Lab.Start(l.HMI, "mbpoll", append([]string{"-m", "tcp", "-a", "1", "-0", "-1", "-o", "3"}, args...)...)
		if err != nil {
			return "", err
		}
		if err := proc.Wait(30 * time.Second); err != nil {
			return "", fmt.Errorf("%w\n%s", err, proc.Output())
		}
		return "filler-plc answered", nil
	}
}

// holdHistorian opens the connection that stays open, and tries it.
func (l *line) holdHistorian() (string, error) {
	conn, err := dialFrom(historianAddress, l.router, l.Filler, portHistorian)
	if err != nil {
		return "", err
	}
	l.held = conn
	return l.askHeld()
}

// askHeld sends something on the connection that is held, and waits for it to come back.
func (l *line) askHeld() (string, error) {
	if l.held == nil {
		return "", errors.New("there is no connection of the historian")
	}
	_ = l.held.SetDeadline(time.Now().Add(patience))
	if _, err := l.held.Write([]byte("ping")); err != nil {
		return "", err
	}
	if _, err := l.held.Read(make([]byte, 4)); err != nil {
		return "", err
	}
	return "filler-plc answered", nil
}

// conduitState checks how a conduit is enforced, as `penstock status` says.
func (l *line) conduitState(name string, want api.OutageState) (string, error) {
	s, err := l.status()
	if err != nil {
		return "", err
	}
	for _, c := range s.Conduits {
		if c.Name == name && c.State == want {
			return string(c.State) + " (status)", nil
		}
	}
	return "", fmt.Errorf("penstock status does not say that %s is %s", name, want)
}
