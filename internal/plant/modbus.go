package plant

import (
	"fmt"
	"sync"
	"time"

	"github.com/simonvetter/modbus"

	"github.com/penstock-ot/penstock/internal/testnet"
)

// RegisterCount is how many holding registers and coils a Device has.
const RegisterCount = 1024

// Device is a Modbus server with registers, as a PLC has: a third party's server over plain
// sockets. Methods are safe for concurrent use.
type Device struct {
	server *modbus.ModbusServer

	mu        sync.Mutex
	registers [RegisterCount]uint16
	coils     [RegisterCount]bool
	writes    int
}

// StartDevice serves Modbus on a host's port until env's cleanup.
func StartDevice(env testnet.Env, h *testnet.Host, port int) (*Device, error) {
	d := &Device{}
	server, err := modbus.NewServer(&modbus.ServerConfiguration{
		URL: fmt.Sprintf("tcp://%s:%d", h.Address(), port), Timeout: time.Minute, MaxClients: 64,
	}, d)
	if err != nil {
		return nil, fmt.Errorf("make a Modbus server: %w", err)
	}
	if err := h.Do(server.Start); err != nil {
		return nil, fmt.Errorf("start the Modbus server of %s: %w", h.Label, err)
	}
	d.server = server
	env.Cleanup(func() { _ = server.Stop() })
	return d, nil
}

// Register returns a holding register.
func (d *Device) Register(address uint16) uint16 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.registers[address]
}

// Writes returns how many write requests reached the device.
func (d *Device) Writes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// HandleCoils implements modbus.RequestHandler.
func (d *Device) HandleCoils(r *modbus.CoilsRequest) ([]bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if int(r.Addr)+int(r.Quantity) > RegisterCount {
		return nil, modbus.ErrIllegalDataAddress
	}
	if r.IsWrite {
		d.writes++
		copy(d.coils[r.Addr:], r.Args)
	}
	return append([]bool{}, d.coils[r.Addr:int(r.Addr)+int(r.Quantity)]...), nil
}

// HandleDiscreteInputs implements modbus.RequestHandler.
func (d *Device) HandleDiscreteInputs(r *modbus.DiscreteInputsRequest) ([]bool, error) {
	if int(r.Addr)+int(r.Quantity) > RegisterCount {
		return nil, modbus.ErrIllegalDataAddress
	}
	return make([]bool, r.Quantity), nil
}

// HandleHoldingRegisters implements modbus.RequestHandler.
func (d *Device) HandleHoldingRegisters(r *modbus.HoldingRegistersRequest) ([]uint16, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if int(r.Addr)+int(r.Quantity) > RegisterCount {
		return nil, modbus.ErrIllegalDataAddress
	}
	if r.IsWrite {
		d.writes++
		copy(d.registers[r.Addr:], r.Args)
	}
	return append([]uint16{}, d.registers[r.Addr:int(r.Addr)+int(r.Quantity)]...), nil
}

// HandleInputRegisters implements modbus.RequestHandler.
func (d *Device) HandleInputRegisters(r *modbus.InputRegistersRequest) ([]uint16, error) {
	if int(r.Addr)+int(r.Quantity) > RegisterCount {
		return nil, modbus.ErrIllegalDataAddress
	}
	return make([]uint16, r.Quantity), nil
}

// Dial connects a third party's Modbus client on one host to a server on another.
func Dial(from, to *testnet.Host, port int, timeout time.Duration) (*modbus.ModbusClient, error) {
	client, err := modbus.NewClient(&modbus.ClientConfiguration{
		URL: fmt.Sprintf("tcp://%s:%d", to.Address(), port), Timeout: timeout,
	})
	if err != nil {
		return nil, fmt.Errorf("make a Modbus client: %w", err)
	}
	if err := from.Do(client.Open); err != nil {
		return nil, fmt.Errorf("connect %s to %s: %w", from.Label, to.Label, err)
	}
	return client, nil
}
