package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sharedCaptures is where captures of real traffic lie beside a checkout.
const sharedCaptures = "../../../shared/captures"

func TestEveryCaptureReads(t *testing.T) {
	if _, err := os.Stat(sharedCaptures); err != nil {
		t.Skipf("no captures: %s is absent", sharedCaptures)
	}
	files, packets := 0, 0
	err := filepath.WalkDir(sharedCaptures, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(filepath.Ext(path), "pcap") {
			return err
		}
		files++
		n, err := readAll(path)
		packets += n
		if err != nil {
			t.Errorf("%s: after %d packets: %v", path, n, err)
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files, %v", files, err)
	}
	t.Logf("%d packets of %d files", packets, files)
}

// readAll reads and decodes a capture; only the reading can fail.
func readAll(path string) (int, error) {
	c, err := OpenCapture(path)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var d Decoder
	var f Frame
	for {
		r, err := c.Next()
		if err == io.EOF {
			return c.number, nil
		}
		if err != nil {
			return c.number, err
		}
		_ = d.Record(&r, &f)
	}
}

// pcapFile and pcapngFile write two packets by hand, as the formats say.
func pcapFile(packets ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0)
	for i, p := range packets {
		b = binary.LittleEndian.AppendUint32(b, uint32(1700000000+i))
		b = binary.LittleEndian.AppendUint32(b, 5)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

func block(kind uint32, body []byte) []byte {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	length := uint32(12 + len(body))
	b := binary.LittleEndian.AppendUint32(nil, kind)
	b = binary.LittleEndian.AppendUint32(b, length)
	b = append(b, body...)
	return binary.LittleEndian.AppendUint32(b, length)
}

func pcapngFile(packets ...[]byte) []byte {
	section := binary.LittleEndian.AppendUint32(nil, sectionByteOrder)
	section = append(section, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	b := block(blockSection, section)
	b = append(b, block(1, []byte{1, 0, 0, 0, 0, 0, 1, 0})...)
	for i, p := range packets {
		at := uint64(1700000000+i)*1e6 + 5
		body := binary.LittleEndian.AppendUint32(nil, 0)
		body = binary.LittleEndian.AppendUint32(body, uint32(at>>32))
		body = binary.LittleEndian.AppendUint32(body, uint32(at))
		body = binary.LittleEndian.AppendUint32(body, uint32(len(p)))
		body = binary.LittleEndian.AppendUint32(body, uint32(len(p)))
		b = append(b, block(blockEnhanced, append(body, p...))...)
	}
	return b
}

func TestCaptureFormats(t *testing.T) {
	one := PrependEthernet(macA, macB, nil, EtherTypeIPv4, tcpPacket(t, hmi4, plc4, "one"))
	two := PrependEthernet(macA, macB, nil, EtherTypeIPv4, tcpPacket(t, hmi4, plc4, "two!"))
	for name, file := range map[string][]byte{"pcap": pcapFile(one, two), "pcapng": pcapngFile(one, two)} {
		t.Run(name, func(t *testing.T) {
			c, err := NewCapture(name, bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range [][]byte{one, two} {
				r, err := c.Next()
				if err != nil || !bytes.Equal(r.Data, want) || r.Number != i+1 || r.Link != LinkEthernet || r.Length != len(want) {
					t.Fatalf("packet %d: %+v, %v", i+1, r, err)
				}
				if at := time.Unix(int64(1700000000+i), 5000).UTC(); !r.Time.Equal(at) {
					t.Errorf("packet %d at %v, want %v", i+1, r.Time, at)
				}
			}
			for range 2 {
				if _, err := c.Next(); err != io.EOF {
					t.Errorf("after the last: %v", err)
				}
			}
		})
	}
}

// A file cut anywhere ends cleanly only between two packets; elsewhere the error says where.
func TestCaptureCutShortSaysSo(t *testing.T) {
	one, two := bytes.Repeat([]byte{1}, 60), bytes.Repeat([]byte{2}, 61)
	for name, build := range map[string]func(...[]byte) []byte{"pcap": pcapFile, "pcapng": pcapngFile} {
		whole, between := build(one, two), map[int]int{len(build()): 0, len(build(one)): 1, len(build(one, two)): 2}
		for n := len(build()); n <= len(whole); n++ {
			c, err := NewCapture(name, bytes.NewReader(whole[:n]))
			if err != nil {
				t.Fatalf("%s: first %d bytes: %v", name, n, err)
			}
			read := 0
			for {
				if _, err = c.Next(); err != nil {
					break
				}
				read++
			}
			packets, clean := between[n]
			if clean != errors.Is(err, io.EOF) || (clean && read != packets) {
				t.Errorf("%s: first %d bytes: %d packets, then %v", name, n, read, err)
			}
			if !clean && !strings.Contains(err.Error(), "read capture "+name+": packet ") {
				t.Errorf("%s: the error names no packet: %v", name, err)
			}
		}
	}
}

func TestCaptureThatIsNone(t *testing.T) {
	for name, file := range map[string]string{
		"empty": "", "text": "not a capture at all", "zeros": string(make([]byte, 100)),
		"section header alone": "\x0a\x0d\x0d\x0a",
	} {
		if _, err := NewCapture(name, strings.NewReader(file)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenCapture("testdata/absent.pcap"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
}

func TestCaptureLengthsAreNotBelieved(t *testing.T) {
	huge := pcapFile([]byte{1})
	binary.LittleEndian.PutUint32(huge[32:], 0xfffffff0)
	binary.LittleEndian.PutUint32(huge[36:], 0xfffffff0)
	ng := pcapngFile([]byte{1})
	binary.LittleEndian.PutUint32(ng[len(pcapngFile())+20:], 0xfffffff0)
	long := pcapngFile([]byte{1})
	binary.LittleEndian.PutUint32(long[len(pcapngFile())+4:], 0xfffffff0)
	for name, file := range map[string][]byte{"pcap": huge, "pcapng packet": ng, "pcapng block": long} {
		c, err := NewCapture(name, bytes.NewReader(file))
		if err == nil {
			_, err = c.Next()
		}
		if err == nil || err == io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCapture(f *testing.F) {
	f.Add(pcapFile([]byte("one"), []byte("two")))
	f.Add(pcapngFile([]byte("one"), []byte("two")))
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := NewCapture("fuzz", bytes.NewReader(file))
		for err == nil {
			_, err = c.Next()
		}
	})
}

func TestRecordLinkTypes(t *testing.T) {
	ip := tcpPacket(t, hmi4, plc4, "hello")
	sll := append([]byte{0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 0x20, 0, 0, 8, 0}, ip...)
	sll2 := append([]byte{8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 0x20, 0, 0}, ip...)
	rows := []struct {
		name string
		link LinkType
		data []byte
		src  [6]byte
	}{
		{"ethernet", LinkEthernet, PrependEthernet(macA, macB, nil, EtherTypeIPv4, ip), macB},
		{"raw", LinkRaw, ip, [6]byte{}},
		{"null", LinkNull, append([]byte{2, 0, 0, 0}, ip...), [6]byte{}},
		{"cooked", LinkSLL, sll, macB},
		{"cooked 2", LinkSLL2, sll2, macB},
	}
	var d Decoder
	var f Frame
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if err := d.Record(&Record{Link: row.link, Data: row.data}, &f); err != nil {
				t.Fatal(err)
			}
			if !f.IsTCP || f.DstPort != 502 || f.Src != row.src || !f.ChecksumOK {
				t.Errorf("decoded as %+v", f)
			}
			for n := range row.data {
				_ = d.Record(&Record{Link: row.link, Data: row.data[:n]}, &f)
			}
		})
	}
	if err := d.Record(&Record{Link: 9999}, &f); err == nil {
		t.Error("an unknown link type is no error")
	}
}
