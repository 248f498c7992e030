package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/penstock-ot/penstock/internal/bridge/ethtool"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// setOffload switches segmentation and checksums by the sender's card on or off.
func setOffload(at testnet.Place, port string, on bool) error {
	return at.Do(func() error {
		eth, err := ethtool.Dial()
		if err != nil {
			return err
		}
		defer eth.Close()
		_, err = eth.Switch(port, func(name string) (bool, bool) {
			return on, name == "tx-generic-segmentation" || name == "tx-scatter-gather" ||
				strings.HasPrefix(name, "tx-checksum-") || ethtool.Segments(name)
		})
		return err
	})
}

// A host with its offloads on sends segments larger than the link carries, without checksums. They
// come to the handler whole and say so; what is accepted, as it came or edited, is cut into frames
// with right checksums on its way out.
func TestLargePacketsAreCutAgain(t *testing.T) {
	for _, edited := range []bool{false, true} {
		name := map[bool]string{false: "as they came", true: "edited"}[edited]
		t.Run(name, func(t *testing.T) {
			p := newPath(t)
			queueRule(t, p.Box, nftables.TableFamilyIPv4, nftables.ChainHookForward)
			must(t, setOffload(p.Plant, testnet.HostInterface, true))
			must(t, setOffload(p.Box, testnet.PortA, false))
			q := open(t, p.Box, Config{})
			var large, unfinished, edits atomic.Uint64
			run(t, q, func(packet *Packet) Answer {
				if packet.GSO {
					large.Add(1)
				}
				if packet.ChecksumNotReady {
					unfinished.Add(1)
				}
				a := pass(packet)
				if data := tcpPayload(packet.Payload); edited && packet.GSO && len(data) > 0 {
					edits.Add(1)
					for i := range data {
						data[i] ^= 0xff
					}
					finishTCP(packet.Payload)
					a.Payload = packet.Payload
				}
				return a
			})
			tap, err := p.Lab.Tap(p.Cell, testnet.HostInterface)
			must(t, err)
			want := make([]byte, 256<<10)
			for i := range len(want) / 4 {
				binary.BigEndian.PutUint32(want[4*i:], uint32(i))
			}
			got := transfer(t, p, want)
			if edited {
				for i := range got {
					if got[i] != want[i] {
						got[i] ^= 0xff // of a large packet; those of one frame are not edited
					}
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("received %d bytes, not the %d that were sent", len(got), len(want))
			}
			if large.Load() == 0 || unfinished.Load() == 0 || edited && edits.Load() == 0 {
				t.Errorf("large %d, without checksum %d, edited %d: nothing was tried", large.Load(), unfinished.Load(), edits.Load())
			}
			wrong := 0
			for _, f := range tap.Frames() {
				if len(f.Data) > 1514 {
					t.Fatalf("a frame of %d bytes arrived", len(f.Data))
				}
				if ip := f.Data[14:]; f.Data[12] == 8 && f.Data[13] == 0 && ip[9] == 6 && tcpSum(ip) != 0xffff {
					wrong++
				}
			}
			if wrong > 0 {
				t.Errorf("%d frames arrived with a wrong checksum", wrong)
			}
		})
	}
}

// transfer sends bytes over TCP from the plant to the cell, and returns what arrives.
func transfer(t *testing.T, p *path, b []byte) (got []byte) {
	t.Helper()
	var listener net.Listener
	must(t, p.In(p.Cell, func() (err error) {
		listener, err = net.Listen("tcp4", testnet.CellAddress+":502")
		return err
	}))
	defer listener.Close()
	must(t, p.In(p.Plant, func() error {
		c, err := net.DialTimeout("tcp4", testnet.CellAddress+":502", 5*time.Second)
		if err != nil {
			return err
		}
		go func() {
			c.Write(b)
			c.Close()
		}()
		return nil
	}))
	server, err := listener.Accept()
	must(t, err)
	defer server.Close()
	must(t, server.SetReadDeadline(time.Now().Add(20*time.Second)))
	got, err = io.ReadAll(server)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("after %d bytes: %v", len(got), err)
	}
	return got
}

// tcpPayload returns the payload of an IPv4 packet with TCP.
func tcpPayload(ip []byte) []byte {
	tcp := ip[4*int(ip[0]&15) : binary.BigEndian.Uint16(ip[2:])]
	return tcp[4*int(tcp[12]>>4):]
}

// finishTCP writes a whole checksum.
func finishTCP(ip []byte) {
	at := 4*int(ip[0]&15) + 16
	ip[at], ip[at+1] = 0, 0
	binary.BigEndian.PutUint16(ip[at:], ^tcpSum(ip))
}

// tcpSum is the sum over pseudo-header and segment of an IPv4 packet; 0xffff where it is right.
func tcpSum(ip []byte) uint16 {
	tcp := ip[4*int(ip[0]&15) : binary.BigEndian.Uint16(ip[2:])]
	sum := uint32(6 + len(tcp))
	for i := 12; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for i := 0; i+1 < len(tcp); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(tcp[i:]))
	}
	if len(tcp)%2 == 1 {
		sum += uint32(tcp[len(tcp)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
