package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/queue"
)

const (
	trialPatience = 500 * time.Millisecond // for what has to come out
	trialSilence  = 100 * time.Millisecond // for what must not
	trialBytes    = 16                     // of the secret by which a frame is told to be a self-test's
)

// trial is a self-test's secret, which frames of its own carry, and what the verdict loop is to say to
// those that end in it. Where there is none it costs the loop one load a packet.
type trial struct {
	secret [trialBytes]byte
	accept bool
	seen   atomic.Int64
}

// answers reports whether a packet is of the self-test, and the answer to it.
func (t *trial) answers(p *queue.Packet) (queue.Answer, bool) {
	if t == nil || !bytes.HasSuffix(p.Payload, t.secret[:]) {
		return queue.Answer{}, false
	}
	t.seen.Add(1)
	return queue.Answer{Accept: t.accept, Mark: mark.Permitted}, true
}

// selfTest passes frames through everything that inspection needs, beside the line: metadata, marker,
// bridge, netfilter rules, each queue and its verdict loop, and the exit gate. What is accepted has to
// come out, unchanged; what is denied, and what nobody decided, must not.
func (d *daemon) selfTest(context.Context) (err error) {
	d.lineMu.Lock()
	defer d.lineMu.Unlock()
	if d.bare {
		// The bare bridge has no rules. They touch nothing of the line: its frames carry no mark.
		if _, err := d.line.AddRule(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.line.RemoveRule()) }()
	}
	way, err := d.line.OpenTrial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, way.Close()) }()
	var programs *datapath.Trial
	err = d.line.Do(func() (err error) {
		programs, err = d.path.AttachTrial(way.Ports())
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, programs.Close()) }()
	for _, i := range d.inspections {
		for _, accept := range []bool{true, false} {
			if err := i.try(way, accept); err != nil {
				return fmt.Errorf("queue %d: %w", i.netfilterNumber(), err)
			}
		}
	}
	return undecided(way)
}

// try sends a frame to the loop's queue.
func (i *inspection) try(way *bridge.Trial, accept bool) error {
	t := &trial{accept: accept}
	if _, err := rand.Read(t.secret[:]); err != nil {
		return err
	}
	i.trial.Store(t)
	defer i.trial.Store(nil)
	_, value := i.number.Match(i.lanes)
	sent, err := trialFrame(way, value, t.secret[:])
	if err != nil {
		return err
	}
	if err := way.Send(sent); err != nil {
		return err
	}
	patience := trialPatience
	if !accept {
		patience = trialSilence
	}
	came, err := way.Receive(patience)
	switch {
	case err != nil:
		return err
	case t.seen.Load() == 0:
		return fmt.Errorf("a frame did not reach its verdict loop within %v", patience)
	case accept && !bytes.Equal(came, sent):
		return errors.New("a frame that was accepted did not come out as it went in")
	case !accept && came != nil:
		return errors.New("a frame that was denied came out")
	}
	return nil
}

// undecided sends a frame to which no program gives metadata.
func undecided(way *bridge.Trial) error {
	sent, err := trialFrame(way, 0, make([]byte, trialBytes))
	if err != nil {
		return err
	}
	if err := way.Send(sent); err != nil {
		return err
	}
	came, err := way.Receive(trialSilence)
	if err == nil && came != nil {
		err = errors.New("a frame that nobody decided came out")
	}
	return err
}

// trialFrame is a datagram between two addresses for documentation (RFC 5737) that carries the mark
// and the secret. The mark stands where the entry program of a self-test reads it.
func trialFrame(way *bridge.Trial, m uint32, secret []byte) ([]byte, error) {
	payload := append(binary.BigEndian.AppendUint32(nil, m), secret...)
	from, to := netip.MustParseAddrPort("192.0.2.1:9"), netip.MustParseAddrPort("192.0.2.2:9")
	ip, err := frame.AppendUDP(nil, from, to, payload)
	if err != nil {
		return nil, fmt.Errorf("build a self-test's frame: %w", err)
	}
	return frame.PrependEthernet(way.MAC(), [6]byte{0x02, 0x50, 0x65, 0x6e, 0x73, 0x00}, nil, frame.EtherTypeIPv4, ip), nil
}
