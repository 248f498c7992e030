package bridge

import (
	"fmt"

	"github.com/mdlayher/ethtool"
)

// firmwareLLDP are the private flags by which drivers let go of LLDP, with the value that does:
// until then the port's own firmware takes the frames in, and answers them.
func firmwareLLDP() map[string]bool {
	return map[string]bool{
		"disable-fw-lldp": true,  // i40e
		"fw-lldp-agent":   false, // ice
	}
}

// switchFirmwareLLDP makes the port's firmware leave LLDP alone and returns the flag that it
// changed, "" for none, with the value that it had.
func switchFirmwareLLDP(port string) (flag string, was bool, err error) {
	client, err := ethtool.New()
	if err != nil {
		return "", false, fmt.Errorf("open ethtool: %w", err)
	}
	defer client.Close()
	flags, err := client.PrivateFlags(ethtool.Interface{Name: port})
	if err != nil {
		return "", false, nil // the driver has none
	}
	for name, quiet := range firmwareLLDP() {
		if is, has := flags.Flags[name]; has && is != quiet {
			return name, is, setPrivateFlag(client, port, name, quiet)
		}
	}
	return "", false, nil
}

func setPrivateFlag(client *ethtool.Client, port, flag string, on bool) error {
	err := client.SetPrivateFlags(ethtool.PrivateFlags{
		Interface: ethtool.Interface{Name: port},
		Flags:     map[string]bool{flag: on},
	})
	if err != nil {
		return fmt.Errorf("set %s of port %s: %w", flag, port, err)
	}
	return nil
}

func restorePrivateFlag(port, flag string, on bool) error {
	client, err := ethtool.New()
	if err != nil {
		return fmt.Errorf("open ethtool: %w", err)
	}
	defer client.Close()
	return setPrivateFlag(client, port, flag, on)
}
