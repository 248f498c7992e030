package policy

// isIO tells whether a header is that of cyclic I/O: both ends of a connection send to one port.
func isIO(h *Header) bool {
	transport, port := service(h)
	return transport == TransportUDP && port == IOPort && !h.Fragment
}

// ioCovering returns the conduit from one identity to another under which they may exchange cyclic
// I/O, 0 if there is none.
func (p *Plan) ioCovering(from, to uint32) uint32 {
	id, _ := p.covering(from, to, &Header{EtherType: etherTypeIPv4, Protocol: uint8(TransportUDP), DstPort: IOPort})
	if id == 0 || !p.Conduits[id].IO {
		return 0
	}
	return id
}

// DecideIO judges by its header who the originator and the target of an I/O connection are and which
// conduit they would exchange it under: h is what the originator sends, from and to one address each.
// It is false where no conduit covers that; which connections may be opened under it is for the
// conduit's rules to say.
func (p *Plan) DecideIO(h *Header) (Decision, bool) {
	d := p.Decide(h)
	if !isIO(h) || d.Conduit == 0 || !p.Conduits[d.Conduit].IO || !contains(p.Conduits[d.Conduit].To, d.Destination) ||
		!contains(p.Conduits[d.Conduit].From, d.Source) {
		return Decision{}, false
	}
	return d, true
}

// IOTarget returns a conduit under which others may open I/O connections to an identity, 0 if there is none:
// what that sends to a group may be the data of one.
func (p *Plan) IOTarget(identity uint32) uint32 {
	for id := range p.Conduits {
		if p.Conduits[id].IO && contains(p.Conduits[id].To, identity) {
			return uint32(id)
		}
	}
	return 0
}
