package main

import (
	"os"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// examplePolicy is the policy that the documentation shows.
func examplePolicy(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../configs/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// lay lays a plant with a device and starts the appliance.
func lay(t *testing.T, o plant.Options) (*plant.Plant, *plant.Device) {
	t.Helper()
	p, d := layStopped(t, o)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p, d
}

func layStopped(t *testing.T, o plant.Options) (*plant.Plant, *plant.Device) {
	t.Helper()
	lab := testnet.New(t)
	if o.Policy == "" {
		o.Policy = examplePolicy(t)
	}
	binary, err := plant.Build(t.TempDir(), "github.com/penstock-ot/penstock/cmd/penstockd")
	if err != nil {
		t.Fatal(err)
	}
	p, err := plant.New(t, lab, binary, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && p.Daemon != nil {
			t.Log(p.Daemon.Output())
			if events, err := p.Events(); err == nil {
				for _, e := range events {
					raw, _ := e.MarshalJSON()
					t.Logf("%s", raw)
				}
			}
		}
	})
	d, err := plant.StartDevice(t, p.Filler, 502)
	if err != nil {
		t.Fatal(err)
	}
	return p, d
}

// TestReadPermittedWriteRefused is the whole way of a frame: a third party's client reads, writes
// inside the permitted range, and is refused outside of it.
func TestReadPermittedWriteRefused(t *testing.T) {
	p, device := lay(t, plant.Options{})
	client, err := plant.Dial(p.HMI, p.Filler, 502, 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.ReadRegisters(0, 10, 0); err != nil {
		t.Fatalf("a permitted read: %v", err)
	}
	if err := client.WriteRegister(45, 1200); err != nil {
		t.Fatalf("a permitted write: %v", err)
	}
	if got := device.Register(45); got != 1200 {
		t.Errorf("the device holds %d after a permitted write of 1200", got)
	}
	if err := client.WriteRegister(100, 1); err == nil {
		t.Error("a write outside of the permitted addresses went through")
	}
	if got := device.Writes(); got != 1 {
		t.Errorf("%d writes reached the device, want 1", got)
	}
	_, err = p.AwaitEvent(3*time.Second, func(e *event.Event) bool {
		return e.Reason == verdict.ReasonAddressNotPermitted && e.Conduit == "hmi-to-filler" &&
			e.Source == "hmi-1" && e.Destination == "filler-plc" && e.Operation == "write_single_register"
	})
	if err != nil {
		t.Error(err)
	}
}
