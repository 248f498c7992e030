package dnp3

import (
	"encoding/binary"
	"fmt"
)

// Function is an application function code (IEEE 1815 table 4-1).
type Function uint8

// What a master sends, and what an outstation does.
const (
	Confirm Function = iota
	Read
	Write
	Select
	Operate
	DirectOperate
	DirectOperateNR
	ImmediateFreeze
	ImmediateFreezeNR
	FreezeClear
	FreezeClearNR
	FreezeAtTime
	FreezeAtTimeNR
	ColdRestart
	WarmRestart
	InitializeData
	InitializeApplication
	StartApplication
	StopApplication
	SaveConfiguration
	EnableUnsolicited
	DisableUnsolicited
	AssignClass
	DelayMeasure
	RecordCurrentTime
	OpenFile
	CloseFile
	DeleteFile
	GetFileInfo
	AuthenticateFile
	AbortFile

	Response            Function = 129
	UnsolicitedResponse Function = 130
)

var functionNames = [...]string{
	"confirm", "read", "write", "select", "operate", "direct_operate", "direct_operate_nr",
	"immed_freeze", "immed_freeze_nr", "freeze_clear", "freeze_clear_nr", "freeze_at_time",
	"freeze_at_time_nr", "cold_restart", "warm_restart", "initialize_data", "initialize_appl",
	"start_appl", "stop_appl", "save_config", "enable_unsolicited", "disable_unsolicited",
	"assign_class", "delay_measure", "record_current_time", "open_file", "close_file", "delete_file",
	"get_file_info", "authenticate_file", "abort_file",
}

func (f Function) String() string {
	switch {
	case int(f) < len(functionNames):
		return functionNames[f]
	case f == Response:
		return "response"
	case f == UnsolicitedResponse:
		return "unsolicited_response"
	}
	return fmt.Sprintf("unknown(0x%02x)", uint8(f))
}

// unanswered tells the functions that are never replied to.
func (f Function) unanswered() bool {
	switch f {
	case Confirm, DirectOperateNR, ImmediateFreezeNR, FreezeClearNR, FreezeAtTimeNR:
		return true
	}
	return false
}

// Bits of the application control octet (IEEE 1815 4.2.2.1).
const (
	FIR = 0x80
	FIN = 0x40
	CON = 0x20 // a confirmation is asked for
	UNS = 0x10

	sequenceBits = 0x0f
)

// IIN are the internal indications: the first octet is the low one (IEEE 1815 4.2.2.3).
type IIN uint16

// The indications.
const (
	IINBroadcast    IIN = 1 << 0
	IINClass1       IIN = 1 << 1
	IINClass2       IIN = 1 << 2
	IINClass3       IIN = 1 << 3
	IINNeedTime     IIN = 1 << 4
	IINLocalControl IIN = 1 << 5
	IINTrouble      IIN = 1 << 6
	IINRestart      IIN = 1 << 7

	IINNoFunction    IIN = 1 << 8
	IINObjectUnknown IIN = 1 << 9
	IINParameter     IIN = 1 << 10
	IINOverflow      IIN = 1 << 11
	IINExecuting     IIN = 1 << 12
	IINCorrupt       IIN = 1 << 13

	iinErrors = IINNoFunction | IINObjectUnknown | IINParameter
)

// Fragment is an application fragment. IIN is there in what an outstation sends.
type Fragment struct {
	Control  byte
	Function Function
	IIN      IIN
	Body     []byte // object headers and objects
}

func (f Fragment) sequence() byte { return f.Control & sequenceBits }

// Append appends the fragment as it goes over the wire.
func (f Fragment) Append(b []byte) []byte {
	b = append(b, f.Control, byte(f.Function))
	if f.Function >= Response {
		b = binary.LittleEndian.AppendUint16(b, uint16(f.IIN))
	}
	return append(b, f.Body...)
}

// Request is the fragment of a request, whole in itself.
func Request(sequence byte, function Function, body ...[]byte) []byte {
	f := Fragment{Control: FIR | FIN | sequence&sequenceBits, Function: function}
	for _, b := range body {
		f.Body = append(f.Body, b...)
	}
	return f.Append(nil)
}

// parseFragment reads what an assembled fragment says before its objects.
func parseFragment(b []byte) (Fragment, error) {
	if len(b) < 2 {
		return Fragment{}, errTruncated
	}
	f := Fragment{Control: b[0], Function: Function(b[1]), Body: b[2:]}
	if f.Function < Response {
		return f, nil
	}
	if len(f.Body) < 2 {
		return Fragment{}, errTruncated
	}
	f.IIN, f.Body = IIN(binary.LittleEndian.Uint16(f.Body)), f.Body[2:]
	return f, nil
}

// Wire is a fragment in its link frames, from one link address to another.
func Wire(control byte, destination, source uint16, transport byte, fragment []byte) (b []byte) {
	for _, s := range Segments(fragment, transport) {
		b = Frame{Control: control, Destination: destination, Source: source, Data: s}.Append(b)
	}
	return b
}

// FromMaster is the link control of a request without a link confirmation.
const FromMaster = LinkDIR | LinkPRM | UnconfirmedUserData

// FromOutstation is the link control of a reply without a link confirmation.
const FromOutstation = LinkPRM | UnconfirmedUserData
