package frame

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// pcapng block types, and the longest block that is believed.
const (
	blockSection     = 0x0a0d0d0a
	blockPacket      = 2
	blockSimple      = 3
	blockEnhanced    = 6
	maxBlock         = 16 << 20
	sectionByteOrder = 0x1a2b3c4d
)

// blockReader passes a pcapng file on block by block and stops with an error at the first one
// whose lengths contradict each other. pcapgo allocates what a packet's length field says and
// takes the end of the file inside a block for the end of the capture; behind this reader it
// sees neither.
type blockReader struct {
	in      *bufio.Reader
	order   binary.ByteOrder
	left    int // bytes of the current block still to be passed on
	packets int // packet blocks begun
}

// Read passes on bytes of the current block, or checks the next one.
func (b *blockReader) Read(p []byte) (int, error) {
	if b.left == 0 {
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	n, err := b.in.Read(p[:min(len(p), b.left)])
	b.left -= n
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next checks the header of the block that begins here. io.EOF is returned only between blocks.
func (b *blockReader) next() error {
	head, err := b.in.Peek(12)
	if len(head) == 0 {
		return err
	}
	if len(head) < 12 {
		return io.ErrUnexpectedEOF
	}
	if binary.BigEndian.Uint32(head) == blockSection {
		if b.order, err = byteOrderOf(head[8:12]); err != nil {
			return err
		}
	}
	if b.order == nil {
		return fmt.Errorf("the first block is no section header")
	}
	length := int(b.order.Uint32(head[4:]))
	if length < 12 || length > maxBlock || length%4 != 0 {
		return fmt.Errorf("a block claims %d bytes", length)
	}
	if err := b.checkPacket(b.order.Uint32(head), length); err != nil {
		return err
	}
	b.left = length
	return nil
}

// byteOrderOf reads a section's byte-order mark.
func byteOrderOf(mark []byte) (binary.ByteOrder, error) {
	switch uint32(sectionByteOrder) {
	case binary.BigEndian.Uint32(mark):
		return binary.BigEndian, nil
	case binary.LittleEndian.Uint32(mark):
		return binary.LittleEndian, nil
	}
	return nil, fmt.Errorf("a section header without byte-order mark")
}

// checkPacket holds a packet block's captured length against the block's own.
func (b *blockReader) checkPacket(kind uint32, length int) error {
	var header, at int
	switch kind {
	case blockEnhanced, blockPacket:
		header, at = 32, 20
	case blockSimple:
		header, at = 16, 8
	default:
		return nil
	}
	if length < header {
		return fmt.Errorf("a packet block of %d bytes", length)
	}
	head, err := b.in.Peek(at + 4)
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	captured := int(b.order.Uint32(head[at:]))
	// A simple packet names only its length on the wire, which a snap length may cut.
	if captured > maxRecord || (kind != blockSimple && captured > length-header) {
		return fmt.Errorf("a packet of %d bytes in a block of %d", captured, length)
	}
	b.packets++
	return nil
}
