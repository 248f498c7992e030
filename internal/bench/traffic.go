package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/penstock-ot/penstock/internal/datapath/pktgen"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/policy/policytest"
)

// conversation is what one conduit permits: a client of side b, a device of side a, a TCP port.
type conversation struct {
	client, device *policy.Identity
	port           uint16
	inspected      bool
}

// site is a generated policy and what it permits.
type site struct {
	text          string
	conversations []conversation
}

// generate makes a site. Every tenth conduit is plain, the others are inspected.
func generate(size policytest.Size) (*site, error) {
	text := strings.Replace(string(policytest.Policy(size)), "name: "+policytest.Appliance+",", "name: "+plant.Appliance+",", 1)
	p, err := policy.Parse("generated.yaml", []byte(text))
	if err != nil {
		return nil, fmt.Errorf("read the generated policy: %w", err)
	}
	plan, err := p.Compile(plant.Appliance)
	if err != nil {
		return nil, fmt.Errorf("compile the generated policy: %w", err)
	}
	s := &site{text: text}
	for i := range plan.Conduits[1:] {
		c := &plan.Conduits[i+1]
		s.conversations = append(s.conversations, conversation{
			client: &plan.Identities[c.From[0]], device: &plan.Identities[c.To[0]],
			port: c.Services[0].Low, inspected: c.Inspect,
		})
	}
	return s, nil
}

// plain returns the first n conversations that are not inspected, all where n is 0.
func (s *site) plain(n int) []conversation {
	var list []conversation
	for _, c := range s.conversations {
		if !c.inspected && (n == 0 || len(list) < n) {
			list = append(list, c)
		}
	}
	return list
}

const (
	firstClientPort = 20000

	// Where the ports stand in an untagged frame with an IPv4 header without options.
	sourcePortOffset      = 34
	destinationPortOffset = 36
)

// requests is traffic from the clients: flows spread evenly over the conversations.
func requests(conversations []conversation, flows int) (pktgen.Traffic, error) {
	t := pktgen.Traffic{Flows: flows, PortOffset: sourcePortOffset, FirstPort: firstClientPort}
	for i := range conversations {
		c := &conversations[i]
		f, err := segment(c.client, c.device, firstClientPort, c.port)
		if err != nil {
			return t, err
		}
		t.Templates = append(t.Templates, f)
	}
	return t, nil
}

// replies is what the devices answer to requests.
func replies(conversations []conversation, flows int) (pktgen.Traffic, error) {
	t := pktgen.Traffic{Flows: flows, PortOffset: destinationPortOffset, FirstPort: firstClientPort}
	for i := range conversations {
		c := &conversations[i]
		f, err := segment(c.device, c.client, c.port, firstClientPort)
		if err != nil {
			return t, err
		}
		t.Templates = append(t.Templates, f)
	}
	return t, nil
}

// segment is a TCP segment of a connection under way, in the shortest frame that Ethernet has.
func segment(from, to *policy.Identity, fromPort, toPort uint16) ([]byte, error) {
	const flagACK = 0x10
	ip, err := frame.AppendTCP(nil, &frame.TCPPacket{
		Src: netip.AddrPortFrom(from.Addresses[0].Addr(), fromPort),
		Dst: netip.AddrPortFrom(to.Addresses[0].Addr(), toPort),
		Seq: 1, Ack: 1, Flags: flagACK, Window: 1024,
		Payload: make([]byte, pktgen.FrameLength-54),
	})
	if err != nil {
		return nil, fmt.Errorf("make a frame: %w", err)
	}
	return frame.PrependEthernet(to.MAC, from.MAC, nil, 0x0800, ip), nil
}
