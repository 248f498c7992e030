package inspect

import (
	"bytes"
	"encoding/binary"

	"github.com/penstock-ot/penstock/internal/stream"
)

// headerChecksum fills in an IPv4 header's checksum.
func headerChecksum(header []byte) {
	header[10], header[11] = 0, 0
	total := uint32(0)
	for i := 0; i < len(header); i += 2 {
		total += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	binary.BigEndian.PutUint16(header[10:], ^uint16(total))
}

// fragmentOf sets an IPv4 packet's flags and fragment offset.
func fragmentOf(ip []byte, word uint16) []byte {
	b := bytes.Clone(ip)
	binary.BigEndian.PutUint16(b[6:], word)
	headerChecksum(b[:20])
	return b
}

// withOptions puts options into an IPv4 packet.
func withOptions(ip, options []byte) []byte {
	b := join(ip[:20], options, ip[20:])
	b[0] = 0x40 | byte(5+len(options)/4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	headerChecksum(b[:20+len(options)])
	return b
}

// unreceived returns how many bytes an end was sent that it never got.
func (w *wire) unreceived(end stream.Direction) int {
	return int(w.seq[end.Other()] - w.first[end] - uint32(len(w.got(end))))
}
