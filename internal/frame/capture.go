package frame

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// maxRecord is the longest packet that is read from a capture, in bytes; libpcap's own limit.
// A longer one is a damaged file, and its length field is not believed with memory.
const maxRecord = 262144

// LinkType is the format of a capture's records, as numbered in the capture file.
type LinkType uint16

// The link types that Decoder.Record reads.
const (
	LinkNull     LinkType = 0
	LinkEthernet LinkType = 1
	LinkRawBSD   LinkType = 12
	LinkRaw      LinkType = 101
	LinkLoop     LinkType = 108
	LinkSLL      LinkType = 113
	LinkIPv4     LinkType = 228
	LinkIPv6     LinkType = 229
	LinkSLL2     LinkType = 276
)

// Record is one packet of a capture file.
type Record struct {
	Number int       // 1-based, as tshark numbers frames
	Time   time.Time // UTC
	Link   LinkType
	Length int    // bytes on the wire; more than len(Data) where the capture cut them off
	Data   []byte // valid until the next call of Next
}

// Capture reads a pcap or pcapng file, gzip allowed for pcap. It is not safe for concurrent use.
type Capture struct {
	path   string
	file   io.Closer
	read   func() (Record, error)
	number int
	err    error
}

// OpenCapture opens a capture file. Errors name the file and say what it is instead.
func OpenCapture(path string) (*Capture, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open capture: %w", err)
	}
	c, err := NewCapture(path, file)
	if err != nil {
		file.Close()
		return nil, err
	}
	c.file = file
	return c, nil
}

// NewCapture reads a capture out of r; name stands in errors.
func NewCapture(name string, r io.Reader) (c *Capture, err error) {
	defer func() {
		if p := recover(); p != nil {
			c, err = nil, fmt.Errorf("open capture %s: the file's headers are damaged", name)
		}
	}()
	in := bufio.NewReaderSize(r, 64<<10)
	magic, err := in.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("open capture %s: too short to be a pcap or pcapng file", name)
	}
	c = &Capture{path: name}
	if binary.BigEndian.Uint32(magic) == blockSection {
		c.read, err = readPcapng(in)
	} else {
		c.read, err = readPcap(in)
	}
	if err != nil {
		return nil, fmt.Errorf("open capture %s: neither pcap nor pcapng that can be read: %w", name, err)
	}
	return c, nil
}

// Next returns the next packet, or io.EOF after the last. Any other error says which packet
// cannot be read, and is returned by every later call: what follows it is not guessed at.
func (c *Capture) Next() (r Record, err error) {
	if c.err != nil {
		return Record{}, c.err
	}
	defer func() {
		// pcapgo takes option lengths and clock resolutions of a damaged pcapng at their word.
		if p := recover(); p != nil {
			r, err = Record{}, c.damaged(fmt.Errorf("the block contradicts itself"))
		}
	}()
	r, err = c.read()
	switch {
	case errors.Is(err, io.EOF):
		c.err = io.EOF
		return Record{}, io.EOF
	case err != nil:
		return Record{}, c.damaged(err)
	}
	c.number++
	r.Number = c.number
	return r, nil
}

// damaged remembers and words an error for the packet after the last good one.
func (c *Capture) damaged(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the file ends inside it")
	}
	c.err = fmt.Errorf("read capture %s: packet %d: %w", c.path, c.number+1, err)
	return c.err
}

// Close closes the file; a second Close is harmless.
func (c *Capture) Close() error {
	if c.file == nil {
		return nil
	}
	file := c.file
	c.file = nil
	return file.Close()
}

// readPcap returns a reader of classic pcap records. The file's snap length is not held
// against its packets: several writers exceed their own.
func readPcap(in io.Reader) (func() (Record, error), error) {
	reader, err := pcapgo.NewReader(in)
	if err != nil {
		return nil, err
	}
	reader.SetSnaplen(maxRecord)
	link := LinkType(reader.LinkType())
	return func() (Record, error) {
		data, info, err := reader.ZeroCopyReadPacketData()
		if err == io.EOF && info.CaptureLength > 0 {
			err = io.ErrUnexpectedEOF
		}
		return Record{Time: info.Timestamp, Link: link, Length: info.Length, Data: data}, err
	}, nil
}

// readPcapng returns a reader of pcapng packets of any interface.
func readPcapng(in io.Reader) (func() (Record, error), error) {
	blocks := &blockReader{in: bufio.NewReaderSize(in, 64<<10)}
	reader, err := pcapgo.NewNgReader(blocks, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		return nil, err
	}
	delivered := 0
	return func() (Record, error) {
		data, info, err := reader.ReadPacketData()
		if err == nil {
			delivered++
			return Record{Time: info.Timestamp, Link: linkOf(info), Length: info.Length, Data: data}, nil
		}
		if err == io.EOF && delivered < blocks.packets {
			err = fmt.Errorf("a block before it hides %d packets", blocks.packets-delivered)
		}
		return Record{}, err
	}, nil
}

// linkOf takes the link type out of what pcapgo hands over with a pcapng packet.
func linkOf(info gopacket.CaptureInfo) LinkType {
	if len(info.AncillaryData) == 1 {
		if link, ok := info.AncillaryData[0].(layers.LinkType); ok {
			return LinkType(link)
		}
	}
	return LinkEthernet
}

// Record decodes a captured packet of any supported link type into f. Only Ethernet fills the
// link layer whole; Linux cooked captures give the source address and the EtherType.
func (d *Decoder) Record(r *Record, f *Frame) error {
	switch r.Link {
	case LinkEthernet:
		return d.Ethernet(r.Data, f)
	case LinkRaw, LinkRawBSD, LinkIPv4, LinkIPv6:
		return d.IP(r.Data, f)
	case LinkNull, LinkLoop: // four bytes of address family, which the IP version repeats
		if len(r.Data) < 4 {
			f.reset()
			return ErrTruncated
		}
		return d.IP(r.Data[4:], f)
	case LinkSLL:
		return d.cooked(r.Data, 16, 14, 6, f)
	case LinkSLL2:
		return d.cooked(r.Data, 20, 0, 12, f)
	}
	f.reset()
	return fmt.Errorf("decode frame: link type %d is not supported", r.Link)
}

// cooked decodes a Linux cooked capture: a header of the length given, with the EtherType and
// the source address at their offsets.
func (d *Decoder) cooked(data []byte, header, typeAt, sourceAt int, f *Frame) error {
	f.reset()
	if len(data) < header {
		return ErrTruncated
	}
	etherType := binary.BigEndian.Uint16(data[typeAt:])
	source := [6]byte(data[sourceAt:])
	var err error
	if etherType == EtherTypeIPv4 || etherType == EtherTypeIPv6 {
		err = d.IP(data[header:], f)
	}
	f.EtherType, f.Src, f.LinkPayload = etherType, source, data[header:]
	return err
}
