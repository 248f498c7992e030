package policy

import (
	"fmt"
	"maps"
	"net/netip"
)

// loan lends identities of the plan to addresses of a capture from elsewhere.
type loan struct {
	macs      map[[6]byte]uint32
	addresses map[netip.Addr]uint32
}

// Lend returns a plan like p in which the identity named is whoever uses the address, an IP or a
// MAC address. Several loans add up. Frames from a lent address are not guarded: their MAC
// addresses, VLANs and sides are those of another plant. It serves Decide only; the tables for the
// fast path stay those of p. The error says that there is no such identity, or that the address
// cannot be read or is lent to another already.
func (p *Plan) Lend(name, address string) (*Plan, error) {
	id, err := p.identityNamed(name)
	if err != nil {
		return nil, err
	}
	lent := *p
	lent.loan = loan{macs: maps.Clone(p.loan.macs), addresses: maps.Clone(p.loan.addresses)}
	if mac, macErr := parseMAC(address); macErr == nil {
		err = put(&lent.loan.macs, mac, id, name, address)
	} else if ip, ipErr := netip.ParseAddr(address); ipErr == nil {
		err = put(&lent.loan.addresses, ip.Unmap(), id, name, address)
	} else {
		err = fmt.Errorf("lend %s: %q is neither an IP nor a MAC address", name, address)
	}
	if err != nil {
		return nil, err
	}
	return &lent, nil
}

func put[K comparable](loans *map[K]uint32, key K, id uint32, name, address string) error {
	if *loans == nil {
		*loans = make(map[K]uint32)
	}
	if other, taken := (*loans)[key]; taken && other != id {
		return fmt.Errorf("lend %s: %s is lent to another identity already", name, address)
	}
	(*loans)[key] = id
	return nil
}

func (p *Plan) identityNamed(name string) (uint32, error) {
	var known []string
	for id := 1; id < len(p.Identities); id++ {
		switch p.Identities[id].Kind {
		case KindBroadcast, KindGroup:
			continue
		}
		if p.Identities[id].Name == name {
			return uint32(id), nil
		}
		known = append(known, p.Identities[id].Name)
	}
	var r report
	return 0, fmt.Errorf("lend %s: the plan of %s has no such identity%s", name, p.Appliance, r.suggest(name, known, ""))
}

// lentSource returns the identity that the sender's address is lent to, or 0.
func (d *decision) lentSource() uint32 {
	if id := d.plan.loan.macs[d.h.Src]; id != 0 {
		return id
	}
	switch {
	case d.isIP():
		return d.plan.loan.addresses[d.h.SrcIP]
	case d.isARP():
		return d.plan.loan.addresses[d.h.ARP.SenderIP]
	}
	return 0
}

// lentDestination returns the identity that the receiver's address is lent to, or 0.
func (d *decision) lentDestination() uint32 {
	if id := d.plan.loan.macs[d.h.Dst]; id != 0 {
		return id
	}
	if d.isIP() {
		return d.plan.loan.addresses[d.h.DstIP]
	}
	return 0
}
