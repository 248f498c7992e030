// Package policytest makes policies for tests and benchmarks.
package policytest

import (
	"bytes"
	"fmt"
)

// Size says how large a policy is.
type Size struct {
	Identities int // at least 2: half of them on each side, at most 16383
	Conduits   int // each between one identity of side b and one of side a, at most 16383
}

// Appliance is the name of the one appliance of a generated policy.
const Appliance = "gate"

// Policy returns a policy without errors of the size given, always the same for the same size.
// Every tenth conduit is plain; the others are Modbus with two rules. No two conduits join the same
// pair on the same port.
func Policy(size Size) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "api_version: penstock/v1\nsite: generated\nmode: enforce\nappliances:\n"+
		"  - {name: %s, sides: {a: [cell], b: [room]}}\nzones:\n"+
		"  - {name: room, sl_target: 2}\n  - {name: cell, sl_target: 2}\nidentities:\n", Appliance)
	half := size.Identities / 2
	for i := range size.Identities {
		name, zone, n := "client", "room", i
		if i >= half {
			name, zone, n = "device", "cell", i-half
		}
		fmt.Fprintf(&b, "  - {name: %s-%d, zone: %s, mac: \"%s\", ip: [%s]}\n", name, n, zone, MAC(i), IP(i))
	}
	b.WriteString("conduits:\n")
	for i := range size.Conduits {
		from, to := i%half, (i/half+i)%(size.Identities-half)
		round := i / (half * (size.Identities - half)) // beyond it every pair has had its turn
		fmt.Fprintf(&b, "  - name: c-%d\n    from: [client-%d]\n    to: [device-%d]\n", i, from, to)
		if i%10 == 9 {
			fmt.Fprintf(&b, "    protocol: tcp\n    ports: [%d]\n", 4840+round)
			continue
		}
		fmt.Fprintf(&b, "    protocol: modbus\n    ports: [%d]\n    rules:\n"+
			"      - {functions: [read], units: [1]}\n"+
			"      - {functions: [write_single_register], addresses: [40-49, 60], values: [0-1500]}\n", 502+round)
	}
	return b.Bytes()
}

// MAC returns the MAC address of the i-th identity: clients first, then devices.
func MAC(i int) string {
	return fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8&0xff, i&0xff)
}

// IP returns the address of the i-th identity.
func IP(i int) string {
	return fmt.Sprintf("198.18.%d.%d", i>>8&0xff, i&0xff)
}
