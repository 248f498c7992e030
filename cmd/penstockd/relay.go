package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/settings"
)

// relay holds the relay of the bypass for as long as it runs, in a process of its own: what it holds
// stays in its position when the daemon ends, however it does. It begins engaged, since nothing has
// shown yet that inspection works.
func relay(ctx context.Context, s *settings.Settings, log *slog.Logger) (err error) {
	if s.Bypass.Driver != "gpio" {
		return fmt.Errorf("hold the relay: bypass.driver is %s, and only gpio has one that a process holds", s.Bypass.Driver)
	}
	line, err := outage.OpenLine(s.Bypass.GPIOChip, s.Bypass.GPIOLine, s.Bypass.GPIOEngaged)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, line.Close()) }()
	h, err := outage.NewHolder(line, s.Bypass.GPIOEngaged, s.Bypass.RelaySocket)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { h.Close() })
	defer stop()
	log.Info("holding the relay", "chip", s.Bypass.GPIOChip, "line", s.Bypass.GPIOLine)
	h.Serve()
	return nil
}
