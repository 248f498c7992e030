package main

import (
	"errors"
	"os"
	"time"

	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/inspect"
)

// observation judges the copies of frames of observed conduits, which are on their way already:
// the same pipeline as for held packets, and nothing comes of its verdicts but records.
type observation struct {
	tap      *datapath.TapReader
	pipeline *inspect.Pipeline
	records  *recorder
	limit    limiter
	swept    time.Time
	sweeping bool // the last sweep has not come round to every connection
}

// run judges copies until the tap is closed.
func (o *observation) run() error {
	for {
		c, err := o.tap.Read()
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		packet := inspect.Packet{
			Time: c.Time, Key: uint64(c.Key), From: c.Side, IP: c.IP, Observed: true,
		}
		j := o.pipeline.Judge(&packet)
		o.records.judgement(&o.limit, &packet, &j)
		if o.sweeping || c.Time.Sub(o.swept) > sweepInterval {
			o.swept = c.Time
			o.sweeping = !o.pipeline.Sweep(c.Time, nil)
		}
	}
}
