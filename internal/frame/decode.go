package frame

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/gopacket/layers"
)

// Decoder takes frames apart. It holds the layers that are used again for every frame; it is
// not safe for concurrent use. The zero Decoder is ready.
type Decoder struct {
	ethernet layers.Ethernet
	tag      layers.Dot1Q
	llc      layers.LLC
	snap     layers.SNAP
	arp      layers.ARP
	ip4      layers.IPv4
	tcp      layers.TCP
	udp      layers.UDP
	icmp4    layers.ICMPv4
	icmp6    layers.ICMPv6
	cut      truncation
}

// truncation takes gopacket's word that bytes are missing; the decoder compares lengths itself.
type truncation struct{}

// SetTruncated does nothing.
func (truncation) SetTruncated() {}

// Ethernet decodes one Ethernet frame, without its frame check sequence, into f. On an error
// the layers before it are in f.
func (d *Decoder) Ethernet(data []byte, f *Frame) error {
	f.reset()
	if len(data) < 14 {
		return ErrTruncated
	}
	if err := d.ethernet.DecodeFromBytes(data, d.cut); err != nil {
		return ErrTruncated
	}
	copy(f.Dst[:], d.ethernet.DstMAC)
	copy(f.Src[:], d.ethernet.SrcMAC)
	f.LinkPayload = data[14:]
	etherType := binary.BigEndian.Uint16(data[12:14])
	for isTag(etherType) {
		if len(f.Tags) == MaxTags {
			return ErrTags
		}
		if len(f.LinkPayload) < 4 {
			return ErrTruncated
		}
		if err := d.tag.DecodeFromBytes(f.LinkPayload, d.cut); err != nil {
			return ErrTruncated
		}
		f.Tags = append(f.Tags, Tag{TPID: etherType, TCI: binary.BigEndian.Uint16(f.LinkPayload)})
		etherType = uint16(d.tag.Type)
		f.LinkPayload = d.tag.Payload
	}
	if etherType < 0x0600 {
		return d.decodeLLC(etherType, f)
	}
	f.EtherType = etherType
	f.Encapsulation = encapsulationOf(etherType)
	switch {
	case f.Encapsulation != EncapsulationNone:
		return nil
	case etherType == EtherTypeARP:
		return d.decodeARP(f.LinkPayload, f)
	case etherType == EtherTypeIPv4:
		return d.decodeIP(f.LinkPayload, f, 4)
	case etherType == EtherTypeIPv6:
		return d.decodeIP(f.LinkPayload, f, 6)
	}
	return nil
}

// IP decodes one IP packet, version 4 or 6, into f. Bytes after the packet's own length are
// link padding and left out. On an error the layers before it are in f.
func (d *Decoder) IP(data []byte, f *Frame) error {
	f.reset()
	if len(data) == 0 {
		return ErrTruncated
	}
	return d.decodeIP(data, f, data[0]>>4)
}

// isTag reports whether an EtherType announces a VLAN tag.
func isTag(etherType uint16) bool {
	return etherType == EtherTypeVLAN || etherType == EtherTypeQinQ || etherType == EtherTypeQinQ9100
}

// encapsulationOf says which other format an EtherType announces.
func encapsulationOf(etherType uint16) Encapsulation {
	switch etherType {
	case EtherTypePPPoEDiscovery, EtherTypePPPoESession:
		return EncapsulationPPPoE
	case EtherTypeMPLS, EtherTypeMPLSMulticast:
		return EncapsulationMPLS
	case EtherTypeMACsec:
		return EncapsulationMACsec
	case EtherTypePBB:
		return EncapsulationPBB
	case EtherTypeHSR:
		return EncapsulationHSR
	case EtherTypeJumboLLC:
		return EncapsulationLLC
	}
	return EncapsulationNone
}

// decodeLLC reads the 802.2 header. IP inside SNAP is not followed: the bridge hook does not
// see it either, so a decoder that did would promise an inspection that never happens.
func (d *Decoder) decodeLLC(length uint16, f *Frame) error {
	f.LLC = true
	f.Encapsulation = EncapsulationLLC
	body := f.LinkPayload
	if int(length) <= len(body) {
		body = body[:length]
	} else {
		f.Truncated = true
	}
	if len(body) < 4 || d.llc.DecodeFromBytes(body, d.cut) != nil {
		if len(body) >= 3 { // an unnumbered frame may end after its one control byte
			f.DSAP = body[0]
			return nil
		}
		return ErrTruncated
	}
	f.DSAP = body[0]
	if body[0] != 0xaa || body[1] != 0xaa || len(d.llc.Payload) < 5 {
		return nil
	}
	if d.snap.DecodeFromBytes(d.llc.Payload, d.cut) == nil {
		f.Encapsulation = EncapsulationSNAP
		f.SNAPType = uint16(d.snap.Type)
	}
	return nil
}

// decodeARP reads an ARP packet. The address sizes are checked before gopacket sees them: its
// length sum is eight bits wide and wraps, and the slices it then takes are out of range.
func (d *Decoder) decodeARP(data []byte, f *Frame) error {
	if len(data) < 8 {
		return ErrTruncated
	}
	if binary.BigEndian.Uint16(data) != 1 || binary.BigEndian.Uint16(data[2:]) != EtherTypeIPv4 ||
		data[4] != 6 || data[5] != 4 {
		return ErrARP
	}
	if len(data) < 28 || d.arp.DecodeFromBytes(data, d.cut) != nil {
		return ErrTruncated
	}
	f.IsARP = true
	f.ARP.Op = d.arp.Operation
	copy(f.ARP.SenderMAC[:], d.arp.SourceHwAddress)
	copy(f.ARP.TargetMAC[:], d.arp.DstHwAddress)
	f.ARP.SenderIP, _ = netip.AddrFromSlice(d.arp.SourceProtAddress)
	f.ARP.TargetIP, _ = netip.AddrFromSlice(d.arp.DstProtAddress)
	return nil
}
