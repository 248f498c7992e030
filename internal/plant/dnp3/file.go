package dnp3

import (
	"encoding/binary"
	"math"
)

// Modes of an OPEN_FILE (IEEE 1815 annex A, group 70 variation 3).
const (
	FileRead  = 1
	FileWrite = 2
)

// FileStatus is how a file request was taken (IEEE 1815 annex A, group 70 variation 4).
type FileStatus uint8

// The statuses that appear here.
const (
	FileSuccess       FileStatus = 0
	FileDenied        FileStatus = 1
	FileInvalidMode   FileStatus = 2
	FileNotFound      FileStatus = 3
	FileTooMany       FileStatus = 5
	FileInvalidHandle FileStatus = 6
	FileBlockSequence FileStatus = 20
)

const (
	lastBlock       = 1 << 31 // in a block's number
	fileBlockOctets = 256     // that an outstation sends and takes at once
	maxOpenFiles    = 4
)

// fileSystem is an outstation's files, and those of them that are open, by handle.
type fileSystem struct {
	contents map[string][]byte
	open     map[uint32]*openFile
	handle   uint32
}

type openFile struct {
	name  string
	mode  uint16
	block uint32 // the next one's number
	size  int    // octets of a block
}

func newFileSystem(files map[string][]byte) fileSystem {
	fs := fileSystem{contents: make(map[string][]byte), open: make(map[uint32]*openFile)}
	for name, b := range files {
		fs.contents[name] = append([]byte{}, b...)
	}
	return fs
}

// fileCommand is g70v3: what an OPEN_FILE and a DELETE_FILE say.
type fileCommand struct {
	name            string
	size            uint32
	mode, block, id uint16
}

const fileCommandOctets = 26 // before the name

func (c fileCommand) object() Object {
	b := binary.LittleEndian.AppendUint16(nil, fileCommandOctets)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(c.name)))
	b = append(b, make([]byte, 6)...)              // time of creation
	b = binary.LittleEndian.AppendUint16(b, 0o644) // permissions
	b = binary.LittleEndian.AppendUint32(b, 0)     // authentication key
	b = binary.LittleEndian.AppendUint32(b, c.size)
	b = binary.LittleEndian.AppendUint16(b, c.mode)
	b = binary.LittleEndian.AppendUint16(b, c.block) // the longest that the master takes
	b = binary.LittleEndian.AppendUint16(b, c.id)
	return Object{Data: append(b, c.name...)}
}

func parseFileCommand(b []byte) (fileCommand, bool) {
	c := cursor{b: b}
	offset, length := int(c.number(2)), int(c.number(2))
	c.octets(6 + 2 + 4)
	f := fileCommand{size: c.number(4), mode: uint16(c.number(2)), block: uint16(c.number(2)), id: uint16(c.number(2))}
	if c.err != nil || offset < fileCommandOctets || offset+length > len(b) {
		return fileCommand{}, false
	}
	f.name = string(b[offset : offset+length])
	return f, true
}

// FileState is g70v4: what an outstation says of an open file, and what a CLOSE_FILE names.
type FileState struct {
	Handle, Size uint32
	Block        uint16 // octets of a block
	ID           uint16 // of the request
	Status       FileStatus
}

func (s FileState) object() Object {
	b := binary.LittleEndian.AppendUint32(nil, s.Handle)
	b = binary.LittleEndian.AppendUint32(b, s.Size)
	b = binary.LittleEndian.AppendUint16(b, s.Block)
	b = binary.LittleEndian.AppendUint16(b, s.ID)
	return Object{Data: append(b, byte(s.Status))}
}

func parseFileState(b []byte) (FileState, bool) {
	c := cursor{b: b}
	s := FileState{Handle: c.number(4), Size: c.number(4), Block: uint16(c.number(2)), ID: uint16(c.number(2)), Status: FileStatus(c.number(1))}
	return s, c.err == nil
}

// block is g70v5: a piece of a file, or without data the wish for one.
func block(handle, number uint32, data []byte) Object {
	b := binary.LittleEndian.AppendUint32(nil, handle)
	b = binary.LittleEndian.AppendUint32(b, number)
	return Object{Data: append(b, data...)}
}

// transportStatus is g70v6.
func transportStatus(handle, number uint32, status FileStatus) []byte {
	o := block(handle, number, []byte{byte(status)})
	return Spell(Kind{70, 6}, QualifierFree, o)
}

// fileRequest handles the functions that are only files'.
func (o *Outstation) fileRequest(a *association, f Fragment) ([]built, IIN) {
	headers, iin := o.headers(f)
	if iin != 0 || len(headers) != 1 || headers[0].Group != 70 || len(headers[0].Objects) != 1 {
		return nil, IINParameter
	}
	data := headers[0].Objects[0].Data
	var state FileState
	switch {
	case f.Function == OpenFile && headers[0].Variation == 3:
		state = o.openFile(a, data)
	case f.Function == DeleteFile && headers[0].Variation == 3:
		state = o.deleteFile(a, data)
	case (f.Function == CloseFile || f.Function == AbortFile) && headers[0].Variation == 4:
		state = o.closeFile(a, f.Function, data)
	case f.Function == GetFileInfo && headers[0].Variation == 7:
		return []built{{body: o.fileInfo(data)}}, 0
	default:
		return nil, IINObjectUnknown
	}
	return []built{{body: Spell(Kind{70, 4}, QualifierFree, state.object())}}, 0
}

func (o *Outstation) openFile(a *association, data []byte) FileState {
	c, ok := parseFileCommand(data)
	contents, exists := o.files.contents[c.name]
	state := FileState{ID: c.id, Block: min(c.block, fileBlockOctets)}
	switch {
	case !ok || c.mode != FileRead && c.mode != FileWrite:
		state.Status = FileInvalidMode
	case c.mode == FileRead && !exists:
		state.Status = FileNotFound
	case len(o.files.open) >= maxOpenFiles:
		state.Status = FileTooMany
	default:
		o.files.handle++
		state.Handle, state.Size = o.files.handle, uint32(len(contents))
		o.files.open[state.Handle] = &openFile{name: c.name, mode: c.mode, size: max(1, int(state.Block))}
		if c.mode == FileWrite {
			o.files.contents[c.name], state.Size = []byte{}, c.size
		}
		o.record(Operation{Function: OpenFile, Kind: Kind{70, 3}, Value: float64(c.mode), Text: c.name, Master: a.master})
	}
	return state
}

func (o *Outstation) deleteFile(a *association, data []byte) FileState {
	c, ok := parseFileCommand(data)
	state := FileState{ID: c.id}
	if _, exists := o.files.contents[c.name]; !ok || !exists {
		state.Status = FileNotFound
		return state
	}
	delete(o.files.contents, c.name)
	o.record(Operation{Function: DeleteFile, Kind: Kind{70, 3}, Text: c.name, Master: a.master})
	return state
}

func (o *Outstation) closeFile(a *association, f Function, data []byte) FileState {
	state, ok := parseFileState(data)
	file := o.files.open[state.Handle]
	if !ok || file == nil {
		state.Status = FileInvalidHandle
		return state
	}
	delete(o.files.open, state.Handle)
	state.Status = FileSuccess
	o.record(Operation{Function: f, Kind: Kind{70, 4}, Text: file.name, Master: a.master})
	return state
}

// readBlock answers the READ of a g70v5.
func (o *Outstation) readBlock(h *Header) []byte {
	if len(h.Objects) != 1 {
		return transportStatus(0, 0, FileInvalidHandle)
	}
	c := cursor{b: h.Objects[0].Data}
	handle, number := c.number(4), c.number(4)
	file := o.files.open[handle]
	if c.err != nil || file == nil || file.mode != FileRead {
		return transportStatus(handle, number, FileInvalidHandle)
	}
	if number != file.block {
		return transportStatus(handle, number, FileBlockSequence)
	}
	contents := o.files.contents[file.name]
	from := min(int(number)*file.size, len(contents))
	to := min(from+file.size, len(contents))
	file.block++
	if to == len(contents) {
		number |= lastBlock
	}
	return Spell(Kind{70, 5}, QualifierFree, block(handle, number, contents[from:to]))
}

// writeBlock takes the WRITE of a g70v5.
func (o *Outstation) writeBlock(a *association, data []byte) []byte {
	c := cursor{b: data}
	handle, number := c.number(4), c.number(4)
	file := o.files.open[handle]
	if c.err != nil || file == nil || file.mode != FileWrite {
		return transportStatus(handle, number, FileInvalidHandle)
	}
	if number&^lastBlock != file.block {
		return transportStatus(handle, number, FileBlockSequence)
	}
	file.block++
	o.files.contents[file.name] = append(o.files.contents[file.name], c.b...)
	o.record(Operation{Function: Write, Kind: Kind{70, 5}, Index: number &^ lastBlock, Text: file.name, Master: a.master})
	return transportStatus(handle, number, FileSuccess)
}

// fileInfo answers with g70v7, or with a status where there is no such file.
func (o *Outstation) fileInfo(data []byte) []byte {
	d, ok := parseFileDescriptor(data)
	contents, exists := o.files.contents[d.Name]
	if !ok || !exists {
		return Spell(Kind{70, 4}, QualifierFree, FileState{ID: d.id, Status: FileNotFound}.object())
	}
	d.Size = uint32(min(len(contents), math.MaxInt32))
	return Spell(Kind{70, 7}, QualifierFree, d.object())
}

// FileDescriptor is g70v7.
type FileDescriptor struct {
	Name string
	Size uint32
	id   uint16
}

const fileDescriptorOctets = 20 // before the name

func (d FileDescriptor) object() Object {
	const simpleFile = 1
	b := binary.LittleEndian.AppendUint16(nil, fileDescriptorOctets)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(d.Name)))
	b = binary.LittleEndian.AppendUint16(b, simpleFile)
	b = binary.LittleEndian.AppendUint32(b, d.Size)
	b = append(b, make([]byte, 6)...)              // time of creation
	b = binary.LittleEndian.AppendUint16(b, 0o644) // permissions
	b = binary.LittleEndian.AppendUint16(b, d.id)
	return Object{Data: append(b, d.Name...)}
}

func parseFileDescriptor(b []byte) (FileDescriptor, bool) {
	c := cursor{b: b}
	offset, length := int(c.number(2)), int(c.number(2))
	c.octets(2)
	d := FileDescriptor{Size: c.number(4)}
	c.octets(6 + 2)
	d.id = uint16(c.number(2))
	if c.err != nil || offset < fileDescriptorOctets || offset+length > len(b) {
		return FileDescriptor{}, false
	}
	d.Name = string(b[offset : offset+length])
	return d, true
}
