package bridge

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/bridge/ethtool"
)

// PortReport says what became of everything in a port that changes frames on their way.
type PortReport struct {
	Port        string
	MTU         int      // in bytes, as it was and is
	SwitchedOff []string // what was on
	StillOn     []string // what the driver does not let go: frames may be merged or lose tags
	Unsupported []string // what the driver does not know, and so does not do
}

// HidesTags reports whether the driver goes on taking VLAN tags out of frames.
func (r PortReport) HidesTags() bool {
	return slices.ContainsFunc(r.StillOn, func(name string) bool {
		return strings.HasPrefix(name, "rx-vlan-") && strings.HasSuffix(name, "hw-parse")
	})
}

// mustBeOff chooses the offloads under which a frame would not leave as it came, or would not be
// seen by the entry program as it came.
func mustBeOff(name string) bool {
	switch {
	case strings.HasPrefix(name, "rx-gro"), name == "rx-lro", name == "rx-udp-gro-forwarding":
		return true // merges segments
	case strings.HasPrefix(name, "rx-vlan-"), strings.HasPrefix(name, "tx-vlan-"):
		return true // takes tags out of frames, or drops the frames of other VLANs
	}
	return ethtool.Segments(name)
}

func chooseOff(name string) (on, chosen bool) { return false, mustBeOff(name) }

// chooseDefault chooses, of what mustBeOff chose, what a port of the kind has on unless told
// otherwise.
func chooseDefault(kind string) func(name string) (on, chosen bool) {
	return func(name string) (on, chosen bool) {
		switch {
		case name == "rx-gro":
			return true, kind != "veth" // since Linux 5.17
		case strings.HasPrefix(name, "rx-vlan-"), strings.HasPrefix(name, "tx-vlan-"):
			return true, true
		}
		return true, ethtool.Segments(name)
	}
}

// portOffloads is what switchOff changed, to be put back.
type portOffloads struct {
	wanted map[string]bool
	pause  *ethtool.Pause
	eee    bool
	flag   string // a private flag of the driver, "" for none
	flagOn bool
}

// switchOff switches everything off that a port can do to frames. What a driver refuses is
// reported and no error. With link, also what may renegotiate or restart it: pause, EEE, and LLDP
// in the port's firmware.
func switchOff(port string, link bool) (was portOffloads, report PortReport, err error) {
	eth, err := ethtool.Dial()
	if err != nil {
		return was, report, err
	}
	defer eth.Close()
	report.Port = port
	if err := switchOffloads(eth, port, &was, &report); err != nil {
		return was, report, err
	}
	if link {
		switchPause(eth, port, &was, &report)
		switchEEE(eth, port, &was, &report)
		if was.flag, was.flagOn, err = switchFirmwareLLDP(port); err != nil {
			report.StillOn = append(report.StillOn, fmt.Sprintf("LLDP in firmware (%v)", err))
			was.flag = ""
		} else if was.flag != "" {
			report.SwitchedOff = append(report.SwitchedOff, "LLDP in firmware")
		}
	}
	sort.Strings(report.SwitchedOff)
	sort.Strings(report.StillOn)
	return was, report, nil
}

func switchOffloads(eth *ethtool.Client, port string, was *portOffloads, report *PortReport) error {
	before, err := eth.Switch(port, chooseOff)
	if err != nil {
		return err
	}
	after, err := eth.Features(port)
	if err != nil {
		return err
	}
	was.wanted = make(map[string]bool)
	for name := range before.Changeable {
		if mustBeOff(name) && before.Wanted[name] {
			was.wanted[name] = true
		}
	}
	for name := range before.Active {
		if mustBeOff(name) && !after.Active[name] {
			report.SwitchedOff = append(report.SwitchedOff, name)
		}
	}
	for name := range after.Active {
		if mustBeOff(name) {
			report.StillOn = append(report.StillOn, name)
		}
	}
	return nil
}

func switchPause(eth *ethtool.Client, port string, was *portOffloads, report *PortReport) {
	pause, err := eth.Pause(port)
	if err != nil {
		report.Unsupported = append(report.Unsupported, "pause")
		return
	}
	if pause == (ethtool.Pause{}) {
		return
	}
	if err := eth.SetPause(port, ethtool.Pause{}); err != nil {
		report.StillOn = append(report.StillOn, fmt.Sprintf("pause (%v)", err))
		return
	}
	was.pause = &pause
	report.SwitchedOff = append(report.SwitchedOff, "pause")
}

func switchEEE(eth *ethtool.Client, port string, was *portOffloads, report *PortReport) {
	enabled, err := eth.EEE(port)
	if err != nil {
		report.Unsupported = append(report.Unsupported, "eee")
		return
	}
	if !enabled {
		return
	}
	if err := eth.SetEEE(port, false); err != nil {
		report.StillOn = append(report.StillOn, fmt.Sprintf("eee (%v)", err))
		return
	}
	was.eee = true
	report.SwitchedOff = append(report.SwitchedOff, "eee")
}

// switchBack puts back what switchOff changed.
func switchBack(port string, was portOffloads) error {
	eth, err := ethtool.Dial()
	if err != nil {
		return err
	}
	defer eth.Close()
	_, err = eth.Switch(port, func(name string) (on, chosen bool) { return true, was.wanted[name] })
	if err != nil {
		return err
	}
	if was.pause != nil {
		if err := eth.SetPause(port, *was.pause); err != nil {
			return err
		}
	}
	if was.eee {
		if err := eth.SetEEE(port, true); err != nil {
			return err
		}
	}
	if was.flag != "" {
		return restorePrivateFlag(port, was.flag, was.flagOn)
	}
	return nil
}

// switchDefaults gives a port the offloads that it has when nobody asked for others.
func switchDefaults(port netlink.Link) error {
	eth, err := ethtool.Dial()
	if err != nil {
		return err
	}
	defer eth.Close()
	_, err = eth.Switch(port.Attrs().Name, chooseDefault(port.Type()))
	return err
}
