package cip

import "fmt"

// Function is a PCCC command and, where the command has functions, one of these (1770-6.5.16, chapter 7).
type Function struct {
	Command uint8
	Sub     uint8
	HasSub  bool
}

// NamedFunction is a function with its name in snake_case.
type NamedFunction struct {
	Name     string
	Function Function
	form     form
	// Data says that the function reads or writes data, and nothing else.
	Data  bool
	Write bool
}

// form is how a function names what it is about.
type form uint8

const (
	formNone     form = iota
	formTwo           // size, file, type, element
	formThree         // and a sub-element
	formMask          // as three, with a mask behind it
	formWord          // packet offset, total, a PLC-5 system address
	formTyped         // the same; size behind the address
	formBit           // a PLC-5 system address, an AND and an OR mask
	formPhysical      // an address in words, and how many bytes
)

const withFunctions = 0x0f

func sub(f uint8) Function { return Function{Command: withFunctions, Sub: f, HasSub: true} }

func diagnostic(f uint8) Function { return Function{Command: 0x06, Sub: f, HasSub: true} }

// functions are those with names. What is not among them is given by number.
var functions = [...]NamedFunction{
	{"protected_write", Function{Command: 0x00}, formPhysical, true, true},
	{"unprotected_read", Function{Command: 0x01}, formPhysical, true, false},
	{"protected_bit_write", Function{Command: 0x02}, formNone, true, true},
	{"unprotected_bit_write", Function{Command: 0x05}, formNone, true, true},
	{"echo", diagnostic(0x00), formNone, true, false},
	{"read_diagnostic_counters", diagnostic(0x01), formNone, true, false},
	{"set_variables", diagnostic(0x02), formNone, false, true},
	{"diagnostic_status", diagnostic(0x03), formNone, true, false},
	{"set_timeout", diagnostic(0x04), formNone, false, true},
	{"set_naks", diagnostic(0x05), formNone, false, true},
	{"set_enqs", diagnostic(0x06), formNone, false, true},
	{"reset_diagnostic_counters", diagnostic(0x07), formNone, false, true},
	{"set_link_parameters", diagnostic(0x0a), formNone, false, true},
	{"unprotected_write", Function{Command: 0x08}, formPhysical, true, true},
	{"word_range_write", sub(0x00), formWord, true, true},
	{"word_range_read", sub(0x01), formWord, true, false},
	{"bit_write", sub(0x02), formBit, true, true},
	{"get_edit_resource", sub(0x11), formNone, false, true},
	{"return_edit_resource", sub(0x12), formNone, false, true},
	{"read_modify_write", sub(0x26), formBit, true, true},
	{"set_cpu_mode", sub(0x3a), formNone, false, true},
	{"disable_forces", sub(0x41), formNone, false, true},
	{"download_all_request", sub(0x50), formNone, false, true},
	{"download_completed", sub(0x52), formNone, false, true},
	{"upload_all_request", sub(0x53), formNone, false, false},
	{"upload_completed", sub(0x55), formNone, false, false},
	{"shutdown", sub(0x57), formNone, false, true},
	{"typed_write", sub(0x67), formTyped, true, true},
	{"typed_read", sub(0x68), formTyped, true, false},
	{"change_mode", sub(0x80), formNone, false, true},
	{"open_file", sub(0x81), formNone, false, true},
	{"close_file", sub(0x82), formNone, false, true},
	{"execute_command_list", sub(0x88), formNone, false, true},
	{"apply_port_configuration", sub(0x8f), formNone, false, true},
	{"protected_typed_logical_read_2", sub(0xa1), formTwo, true, false},
	{"protected_typed_logical_read", sub(0xa2), formThree, true, false},
	{"protected_typed_file_read", sub(0xa7), formNone, false, false},
	{"protected_typed_logical_write_2", sub(0xa9), formTwo, true, true},
	{"protected_typed_logical_write", sub(0xaa), formThree, true, true},
	{"masked_write", sub(0xab), formMask, true, true},
	{"protected_typed_file_write", sub(0xaf), formNone, false, true},
}

// Functions returns the PCCC functions that have names. The caller must not change the list.
func Functions() []NamedFunction { return functions[:] }

func (f Function) named() *NamedFunction {
	for i := range functions {
		if functions[i].Function == f {
			return &functions[i]
		}
	}
	return nil
}

// Data tells whether the function reads or writes data and nothing else: none that changes the mode of
// the processor, its program or its parameters. What is not known is not.
func (f Function) Data() bool { n := f.named(); return n != nil && n.Data }

// Writes tells whether the function is, or may be, more than a read.
func (f Function) Writes() bool { n := f.named(); return n == nil || n.Write }

// String returns the function's name in snake_case, or unknown(0x0f/0x3b).
func (f Function) String() string {
	switch n := f.named(); {
	case n != nil:
		return n.Name
	case f.HasSub:
		return fmt.Sprintf("unknown(0x%02x/0x%02x)", f.Command, f.Sub)
	}
	return fmt.Sprintf("unknown(0x%02x)", f.Command)
}

// hasFunctions tells whether a command has a function code behind its transaction.
func hasFunctions(command uint8) bool {
	switch command {
	case 0x06, 0x07, 0x0b, 0x0e, withFunctions:
		return true
	}
	return false
}

// FileType is the type of a data file (1770-6.5.16, chapter 13).
type FileType uint8

// The file types of SLC 500 and MicroLogix processors. Outputs and inputs have two each, of which clients use either.
const (
	FileOutputs FileType = 0x82
	FileInputs  FileType = 0x83
	FileStatus  FileType = 0x84
	FileBit     FileType = 0x85
	FileTimer   FileType = 0x86
	FileCounter FileType = 0x87
	FileControl FileType = 0x88
	FileInteger FileType = 0x89
	FileFloat   FileType = 0x8a
	FileOutput  FileType = 0x8b
	FileInput   FileType = 0x8c
	FileString  FileType = 0x8d
	FileASCII   FileType = 0x8e
	FileBCD     FileType = 0x8f
	FileLong    FileType = 0x91
)

// ElementSize returns how many bytes an element has, 0 if the type does not say.
func (t FileType) ElementSize() int {
	switch t {
	case FileTimer, FileCounter, FileControl:
		return 6
	case FileFloat, FileLong:
		return 4
	case FileString:
		return 84
	case FileStatus, FileBit, FileInteger, FileOutput, FileInput, FileOutputs, FileInputs, FileASCII, FileBCD:
		return 2
	}
	return 0
}

func (t FileType) isSlots() bool {
	return t == FileOutput || t == FileInput || t == FileOutputs || t == FileInputs
}

// fileLetters are the letters that programmers put before a file's number.
var fileLetters = [...]struct {
	letters string
	of      FileType
}{
	{"O", FileOutput}, {"O", FileOutputs}, {"I", FileInput}, {"I", FileInputs}, {"S", FileStatus}, {"B", FileBit},
	{"T", FileTimer}, {"C", FileCounter}, {"R", FileControl}, {"N", FileInteger}, {"F", FileFloat}, {"ST", FileString},
	{"A", FileASCII}, {"D", FileBCD}, {"L", FileLong},
}

// Letters returns what programmers put before the number of a file of the type, "" where the type is not known.
func (t FileType) Letters() string {
	for _, l := range fileLetters {
		if l.of == t {
			return l.letters
		}
	}
	return ""
}

// IsFileLetters tells whether there is a type with these letters.
func IsFileLetters(letters string) bool {
	for _, l := range fileLetters {
		if l.letters == letters {
			return true
		}
	}
	return false
}

// Command is a PCCC command inside an Execute PCCC (1770-6.5.16).
type Command struct {
	Function      Function
	FunctionKnown bool // command and function have arrived
	Transaction   uint16

	// File and Element are what typed logical commands name; Elements is how many are touched at most.
	HasAddress    bool
	File, Element uint16
	SubElement    uint16
	Type          FileType
	Elements      uint32
}

// requestorLength is the requestor id: its length, a vendor and a serial number.
const requestorLength = 7

// Command reads the PCCC command of an Execute PCCC, as far as it has arrived.
func (r *Request) Command() (c Command, ok bool) {
	if !r.Is(ExecutePCCC, PCCC) || c.parse(r.Data, r.DataLength) != nil {
		return Command{}, false
	}
	return c, true
}

// parse reads requestor id, command, status, transaction and function.
func (c *Command) parse(b []byte, length int) *MalformedError {
	const header = requestorLength + 4
	if byteIsNot(b, 0, requestorLength) {
		return errRequestor
	}
	if length < header {
		return errPCCC
	}
	if len(b) <= requestorLength {
		return nil
	}
	c.Function = Function{Command: b[requestorLength]}
	c.Transaction = value16(b, requestorLength+2)
	if !hasFunctions(c.Function.Command) {
		c.FunctionKnown = true
		return nil
	}
	if length <= header {
		return errPCCC
	}
	if len(b) <= header {
		return nil
	}
	c.Function.Sub, c.Function.HasSub, c.FunctionKnown = b[header], true, true
	n := c.Function.named()
	if n == nil {
		return nil
	}
	return c.parseAddress(b[header+1:], length-header-1, n)
}

// parseAddress reads the address of a typed logical command: numbers of one byte, or 0xff and two bytes
// more. All have to fit, whether they have arrived or not.
func (c *Command) parseAddress(b []byte, length int, n *NamedFunction) *MalformedError {
	fields := 0
	switch n.form {
	case formTwo:
		fields = 1
	case formThree, formMask:
		fields = 2
	default:
		return nil
	}
	if length < 4+fields-1 {
		return errPCCC
	}
	if len(b) == 0 {
		return nil
	}
	size, at := int(b[0]), 1
	number := func() (v uint16, ok bool) {
		switch {
		case len(b) <= at:
			return 0, false
		case b[at] != 0xff:
			at++
			return uint16(b[at-1]), true
		case len(b) < at+3:
			return 0, false
		}
		at += 3
		return value16(b, at-2), true
	}
	known := true
	c.File, known = number()
	if known = known && len(b) > at; known {
		c.Type = FileType(b[at])
		at++
		c.Element, known = number()
	}
	if known && fields == 2 {
		c.SubElement, known = number()
	}
	if !known {
		if len(b) == length {
			return errPCCC
		}
		return nil
	}
	c.HasAddress = true
	c.Elements = c.elements(size)
	switch {
	case n.form == formMask && length-at != 2+size:
		return errPCCC
	case n.form != formMask && n.Write && length-at != size:
		return errPCCC
	case !n.Write && length != at:
		return errPCCC
	}
	return nil
}

// elements returns how many elements size bytes touch: from a sub-element on they may reach into the next. Those of
// inputs and outputs are slots, of as many words as their modules have.
func (c *Command) elements(size int) uint32 {
	element := c.Type.ElementSize()
	if element == 0 {
		return uint32(max(size, 1))
	}
	first := 2 * int(c.SubElement) // sub-elements are words
	if c.Type.isSlots() {
		first = min(first, element)
	}
	return uint32(max((first+size+element-1)/element, 1))
}

// Spelling returns the address as programmers write it, such as N7:3 or 9:3.
func (c *Command) Spelling() string {
	return fmt.Sprintf("%s%d:%d", c.Type.Letters(), c.File, c.Element)
}
