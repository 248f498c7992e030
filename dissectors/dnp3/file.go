package dnp3

// The variations of group 70 (annex A).
const (
	fileAuthentication  = 2
	fileCommand         = 3
	fileCommandStatus   = 4
	fileTransport       = 5
	fileTransportStatus = 6
	fileDescriptor      = 7
	fileSpecification   = 8
)

// FileMode is what a file is opened for.
type FileMode uint16

// The modes of a file command; none is used for deletion.
const (
	FileModeNone   FileMode = 0
	FileModeRead   FileMode = 1
	FileModeWrite  FileMode = 2
	FileModeAppend FileMode = 3
)

// File is what an object of group 70 says of a file.
type File struct {
	// Name is the file's name as it is sent; nil where the variation has none.
	Name []byte
	Mode FileMode // of a file command
	// Handle names an open file; of variations 4 to 6.
	Handle uint32
}

// The sizes of the fields before the texts, by variation.
var fileFixed = [...]int{
	fileAuthentication: 12, fileCommand: 26, fileCommandStatus: 13, fileTransport: 8, fileTransportStatus: 9,
	fileDescriptor: 20, fileSpecification: 0,
}

// File reads an object of group 70.
func (h *Header) File(data []byte) (f File, ok bool) {
	if h.Group != GroupFile || checkFile(h.Variation, data) != nil {
		return File{}, false
	}
	switch h.Variation {
	case fileCommand:
		f.Name, f.Mode = data[fileFixed[fileCommand]:], FileMode(value16(data, 20))
	case fileDescriptor:
		f.Name = data[fileFixed[fileDescriptor]:]
	case fileSpecification:
		f.Name = data
	case fileCommandStatus, fileTransport, fileTransportStatus:
		f.Handle = value32(data, 0)
	}
	return f, true
}

// checkFile holds offsets and sizes to the object: each text lies behind the fields, or behind the
// text before it, and nothing follows.
func checkFile(variation uint8, data []byte) *MalformedError {
	if int(variation) >= len(fileFixed) || variation < fileAuthentication {
		return nil // variation 1 is obsolete, and nobody knows its fields
	}
	fixed := fileFixed[variation]
	if len(data) < fixed {
		return errFileObject
	}
	switch variation {
	case fileAuthentication:
		user := int(value16(data, 2))
		if int(value16(data, 0)) != fixed || int(value16(data, 4)) != fixed+user ||
			fixed+user+int(value16(data, 6)) != len(data) {
			return errFileObject
		}
	case fileCommand, fileDescriptor:
		if int(value16(data, 0)) != fixed || fixed+int(value16(data, 2)) != len(data) {
			return errFileObject
		}
	}
	return nil
}
