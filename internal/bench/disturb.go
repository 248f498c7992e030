package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// disturb is what the failures need that a daemon has by itself: its collector and its clock.
type disturb struct {
	*plant.Disturbance
	binary string // a penstockd that can be disturbed, "" where none is built yet
}

// useDisturbed has a daemon that can be disturbed take over.
func (o *outages) useDisturbed() (err error) {
	d := &o.disturb
	if d.binary == "" {
		if d.binary, err = plant.BuildDisturbed(o.dir); err != nil {
			return err
		}
		if d.Disturbance, err = o.plant.Disturb(); err != nil {
			return err
		}
	}
	return o.replace(d.binary)
}

// useOurs has the daemon that is measured take over again.
func (o *outages) useOurs() error { return o.replace(o.daemon) }

// replace restarts the daemon as another build, and leaves what its users notice of that behind.
func (o *outages) replace(binary string) error {
	o.plant.Use(binary)
	err := o.restart()
	time.Sleep(2 * settling)
	return err
}

// litter has the daemon collect garbage for half a second, over and over in a heap of a million objects.
func (o *outages) litter() error {
	before := o.disturb.Collections()
	o.disturb.Litter(true)
	time.Sleep(hangTime)
	o.disturb.Litter(false)
	if o.disturb.Collections() == before {
		return fmt.Errorf("no garbage was collected within %v", hangTime)
	}
	return nil
}

const (
	jumpTime    = 1200 * time.Millisecond // how long the clock stands so: longer than any sweep of what is idle waits
	tellingTime = 5 * time.Second
)

// jumpClock sets the daemon's clock of the wall, and waits each time until the daemon tells of it.
func (o *outages) jumpClock() error {
	for _, ahead := range []time.Duration{time.Hour, 0, -24 * time.Hour, 0} {
		before, err := o.jumpsTold()
		if err != nil {
			return err
		}
		o.disturb.SetClock(ahead)
		told := testnet.WaitFor(fmt.Sprintf("the daemon to tell that its clock was set to %v ahead", ahead), tellingTime, func() (bool, error) {
			now, err := o.jumpsTold()
			return now > before, err
		})
		if told != nil {
			o.disturb.SetClock(0)
			return told
		}
		time.Sleep(jumpTime)
	}
	return nil
}

// jumpsTold is how often the daemon has noticed that its clock jumped.
func (o *outages) jumpsTold() (uint64, error) {
	status, err := o.plant.Status()
	if err != nil {
		return 0, errors.Join(errors.New("ask the daemon for jumps of its clock"), err)
	}
	i := slices.IndexFunc(status.Outage.Failures, func(f outage.Failure) bool { return f.Class == outage.ClockJumped })
	if i < 0 {
		return 0, nil
	}
	return status.Outage.Failures[i].Count, nil
}
