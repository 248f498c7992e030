package identity

import (
	"net"
	"net/netip"
	"slices"
	"time"
)

// key is how a station is filed: by its MAC address, or by its own address where the MAC is a
// router's.
func (s *Station) key() assetKey {
	if s.Behind {
		return assetKey{s.MAC, s.Address}
	}
	return assetKey{mac: s.MAC}
}

// asset returns the asset of a station, new or known, with what the sighting adds to it; nil where
// there is no room.
func (v *Inventory) asset(s Station, at time.Time) *Asset {
	key := s.key()
	a := v.assets[key]
	if a == nil {
		if !v.makeRoom(s.Identity != "") {
			v.leftOut++
			return nil
		}
		a = &Asset{MAC: net.HardwareAddr(s.MAC[:]).String(), FirstSeen: at, Behind: s.Behind}
		v.assets[key] = a
	}
	a.Side, a.Identity, a.LastSeen = s.Side, s.Identity, latest(a.LastSeen, at)
	if text := s.Address.String(); s.Address.IsValid() && !slices.Contains(a.Addresses, text) {
		if len(a.Addresses) == MaxAddresses {
			a.MoreAddresses++
		} else {
			a.Addresses = append(a.Addresses, text)
		}
	}
	if s.VLAN != 0 && !slices.Contains(a.VLANs, s.VLAN) && len(a.VLANs) < maxVLANs {
		a.VLANs = append(a.VLANs, s.VLAN)
	}
	return a
}

// makeRoom reports whether one more asset fits. For one that the policy names, the stranger seen
// least recently goes.
func (v *Inventory) makeRoom(named bool) bool {
	if len(v.assets) < MaxAssets {
		return true
	}
	if !named {
		return false
	}
	var oldest assetKey
	found := false
	for key, a := range v.assets {
		if a.Identity == "" && (!found || a.LastSeen.Before(v.assets[oldest].LastSeen)) {
			oldest, found = key, true
		}
	}
	if found {
		delete(v.assets, oldest)
		v.leftOut++
	}
	return found
}

// talk returns the entry of a conversation, new or known; nil where there is no room.
func (v *Inventory) talk(t *Talk) *talk {
	v.asset(t.Client, t.Seen)
	if t.Answered { // else it was only spoken to
		v.asset(t.Server, t.Seen)
	}
	key := talkKey{
		client: t.Client.MAC, server: t.Server.MAC,
		addresses: [2]netip.Addr{t.Client.Address, t.Server.Address}, protocol: t.Protocol, port: t.Port,
	}
	known := v.talks[key]
	if known == nil {
		if len(v.talks) == MaxConversations {
			v.leftOut++
			return nil
		}
		known = &talk{Conversation: Conversation{
			ClientMAC: net.HardwareAddr(t.Client.MAC[:]).String(), ServerMAC: net.HardwareAddr(t.Server.MAC[:]).String(),
			ClientAddress: addressText(t.Client.Address), ServerAddress: addressText(t.Server.Address),
			Protocol: t.Protocol, Port: t.Port, FirstSeen: t.Seen,
		}}
		v.talks[key] = known
	}
	known.Client, known.Server, known.Conduit = t.Client.Identity, t.Server.Identity, t.Conduit
	known.LastSeen = latest(known.LastSeen, t.Seen)
	return known
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// key is how an asset that was written down is filed; false where it cannot have been one.
func (a *Asset) key() (assetKey, bool) {
	mac, ok := parseMAC(a.MAC)
	if !ok || !a.Behind {
		return assetKey{mac: mac}, ok
	}
	if len(a.Addresses) == 0 {
		return assetKey{}, false
	}
	address, err := netip.ParseAddr(a.Addresses[0])
	return assetKey{mac, address}, err == nil
}

// key is how a conversation that was written down is filed.
func (c *Conversation) key() (talkKey, bool) {
	client, clientOK := parseMAC(c.ClientMAC)
	server, serverOK := parseMAC(c.ServerMAC)
	from, fromOK := parseAddress(c.ClientAddress)
	to, toOK := parseAddress(c.ServerAddress)
	return talkKey{
		client: client, server: server, addresses: [2]netip.Addr{from, to}, protocol: c.Protocol, port: c.Port,
	}, clientOK && serverOK && fromOK && toOK
}

func parseMAC(text string) (mac [6]byte, ok bool) {
	parsed, err := net.ParseMAC(text)
	if err != nil || len(parsed) != len(mac) {
		return mac, false
	}
	return [6]byte(parsed), true
}

func parseAddress(text string) (netip.Addr, bool) {
	if text == "" {
		return netip.Addr{}, true
	}
	a, err := netip.ParseAddr(text)
	return a, err == nil
}
