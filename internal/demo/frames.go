package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/testnet"
)

const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeLLDP = 0x88cc
	tcpSYN        = 0x02
)

// frameWait is how long a frame may take to the other side.
const frameWait = time.Second

var errNotArrived = errors.New("did not arrive")

// carry sends a frame from one device's interface and waits for it, byte for byte, at another's.
// Frames that devices send by their own sockets are real; those that no honest device sends have
// to be made.
func (l *line) carry(from, to *testnet.Host, raw []byte) (string, error) {
	if err := l.taps[from].Send(raw); err != nil {
		return "", err
	}
	if _, err := l.taps[to].Await(frameWait, func(f []byte) bool { return bytes.Equal(f, raw) }); err != nil {
		return "did not arrive", errNotArrived
	}
	return "arrived byte for byte", nil
}

// opening is a TCP SYN to a device's Modbus port that claims to come from somebody.
func opening(srcMAC net.HardwareAddr, srcIP netip.Addr, dstMAC net.HardwareAddr, dstIP netip.Addr) ([]byte, error) {
	const port = 49152
	ip, err := frame.AppendTCP(nil, &frame.TCPPacket{
		Src: netip.AddrPortFrom(srcIP, port), Dst: netip.AddrPortFrom(dstIP, portModbus),
		Seq: 1, Flags: tcpSYN, Window: 1024,
	})
	if err != nil {
		return nil, err
	}
	return frame.PrependEthernet([6]byte(dstMAC), [6]byte(srcMAC), nil, etherTypeIPv4, ip), nil
}

// claim is a gratuitous ARP announcement (RFC 5227 2.3): mac says that the address is its own.
func claim(mac net.HardwareAddr, address netip.Addr) []byte {
	const hardwareEthernet, request = 1, 1
	body := binary.BigEndian.AppendUint16(nil, hardwareEthernet)
	body = binary.BigEndian.AppendUint16(body, etherTypeIPv4)
	body = append(body, 6, 4)
	body = binary.BigEndian.AppendUint16(body, request)
	body = append(append(body, mac...), address.AsSlice()...)
	body = append(append(body, make([]byte, 6)...), address.AsSlice()...)
	everybody := [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	return frame.PrependEthernet(everybody, [6]byte(mac), nil, etherTypeARP, body)
}

// announcement is an LLDP frame (IEEE 802.1AB 8.2): chassis, port, time to live, end.
func announcement(h *testnet.Host) []byte {
	const subtypeMAC, subtypeName = 4, 5
	tlv := func(b []byte, kind uint16, value ...byte) []byte {
		return append(binary.BigEndian.AppendUint16(b, kind<<9|uint16(len(value))), value...)
	}
	body := tlv(nil, 1, append([]byte{subtypeMAC}, h.MAC...)...)
	body = tlv(body, 2, append([]byte{subtypeName}, testnet.HostInterface...)...)
	body = tlv(body, 3, 0, 120)
	body = tlv(body, 0)
	nearestBridge := [6]byte{0x01, 0x80, 0xc2, 0, 0, 0x0e}
	return frame.PrependEthernet(nearestBridge, [6]byte(h.MAC), nil, etherTypeLLDP, body)
}
