package main

import (
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// identitySteps try who may speak, from where, and under which address.
func (l *line) identitySteps() []step {
	return []step{
		{
			what:   "a device that the policy does not know connects",
			denied: verdict.ReasonUnknownSource,
			try: func() (string, error) {
				conn, err := dial(l.stranger, l.Filler, portModbus)
				if err == nil {
					conn.Close()
				}
				return "", err
			},
			told: from(l.stranger, verdict.ReasonUnknownSource),
		},
		{
			what:   "that device, under the IP address of hmi-1",
			denied: verdict.ReasonAddressSpoofed,
			try:    l.opens(l.stranger, l.stranger, l.HMI, l.Filler, l.Filler),
			told:   from(l.stranger, verdict.ReasonAddressSpoofed),
		},
		{
			what:   "both addresses of hmi-1, from the cell's side",
			denied: verdict.ReasonWrongPort,
			try:    l.opens(l.Filler, l.HMI, l.HMI, l.stranger, l.stranger),
			told:   from(l.HMI, verdict.ReasonWrongPort),
		},
		{
			what:   "hmi-1 claims the address of pump-rtu by ARP",
			denied: verdict.ReasonARPSpoofed,
			try:    func() (string, error) { return l.carry(l.HMI, l.Filler, claim(l.HMI.MAC, l.pump.Address())) },
			told:   from(l.HMI, verdict.ReasonARPSpoofed),
		},
		{
			what: "hmi-1 claims its own address by ARP",
			try:  func() (string, error) { return l.carry(l.HMI, l.Filler, claim(l.HMI.MAC, l.HMI.Address())) },
		},
		{
			what: "filler-plc announces itself by LLDP",
			try:  l.announces,
		},
	}
}

// from matches the event of a device's frames: by MAC address, which is what it sends with.
func from(h *testnet.Host, reason verdict.Reason) func(*event.Event) bool {
	return func(e *event.Event) bool { return e.SourceMAC == h.MAC.String() && e.Reason == reason }
}

// opens sends a TCP SYN from one device's interface under others' addresses, and waits for it at
// the device that it is sent to.
func (l *line) opens(sender, mac, ip, to, toIP *testnet.Host) func() (string, error) {
	return func() (string, error) {
		raw, err := opening(mac.MAC, ip.Address(), to.MAC, toIP.Address())
		if err != nil {
			return "", err
		}
		return l.carry(sender, to, raw)
	}
}

func (l *line) announces() (string, error) { return l.carry(l.Filler, l.HMI, announcement(l.Filler)) }
