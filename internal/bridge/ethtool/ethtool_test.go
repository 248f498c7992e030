package ethtool_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/bridge/ethtool"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// atPort runs f with a client beside a virtual port.
func atPort(t *testing.T, f func(c *ethtool.Client, port string)) {
	t.Helper()
	lab := testnet.New(t)
	err := lab.Box.Do(func() error {
		c, err := ethtool.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		f(c, testnet.PortA)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFeaturesAreReadBack(t *testing.T) {
	atPort(t, func(c *ethtool.Client, port string) {
		for _, on := range []bool{false, true, true, false} {
			want := map[string]bool{"tx-tcp-segmentation": on, "rx-gro": !on}
			if err := c.SetFeatures(port, want); err != nil {
				t.Fatal(err)
			}
			f, err := c.Features(port)
			if err != nil {
				t.Fatal(err)
			}
			for name, on := range want {
				if f.Active[name] != on || f.Wanted[name] != on || !f.Changeable[name] {
					t.Errorf("%s is active %v, wanted %v, changeable %v, want %v", name, f.Active[name], f.Wanted[name], f.Changeable[name], on)
				}
			}
		}
	})
}

func TestSwitchReturnsWhatWas(t *testing.T) {
	atPort(t, func(c *ethtool.Client, port string) {
		off := func(name string) (on, chosen bool) { return false, ethtool.Segments(name) }
		before, err := c.Switch(port, off)
		if err != nil {
			t.Fatal(err)
		}
		if !before.Active["tx-tcp-segmentation"] {
			t.Errorf("before, segmentation was %v", before.Active)
		}
		now, err := c.Features(port)
		if err != nil {
			t.Fatal(err)
		}
		for name := range now.Active {
			if ethtool.Segments(name) {
				t.Errorf("%s is still on", name)
			}
		}
		if again, err := c.Switch(port, off); err != nil || again.Active["tx-tcp-segmentation"] {
			t.Errorf("once more: %v, %v", again.Active, err)
		}
	})
}

func TestErrorsNameThePort(t *testing.T) {
	atPort(t, func(c *ethtool.Client, port string) {
		_, noPause := c.Pause(port)
		_, noEEE := c.EEE(port)
		_, noPort := c.Features("absent")
		for _, row := range []struct {
			name, port  string
			err         error
			unsupported bool
		}{
			{"read pause", port, noPause, true},
			{"set pause", port, c.SetPause(port, ethtool.Pause{}), true},
			{"read eee", port, noEEE, true},
			{"set eee", port, c.SetEEE(port, false), true},
			{"unknown port", "absent", noPort, false},
			{"unknown offload", port, c.SetFeatures(port, map[string]bool{"rx-nothing": true}), true},
		} {
			if row.err == nil || !strings.Contains(row.err.Error(), row.port) || errors.Is(row.err, ethtool.ErrUnsupported) != row.unsupported {
				t.Errorf("%s: %v, unsupported wanted %v", row.name, row.err, row.unsupported)
			}
		}
		if _, err := c.Features(port); err != nil {
			t.Errorf("after errors: %v", err)
		}
	})
}
