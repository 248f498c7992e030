package dnp3

import "fmt"

// FunctionCode is an application layer function code. Requests have 0..128, responses 129 up.
type FunctionCode uint8

// The function codes of IEEE 1815 table 4-1.
const (
	Confirm                  FunctionCode = 0
	Read                     FunctionCode = 1
	Write                    FunctionCode = 2
	Select                   FunctionCode = 3
	Operate                  FunctionCode = 4
	DirectOperate            FunctionCode = 5
	DirectOperateNoReply     FunctionCode = 6
	ImmediateFreeze          FunctionCode = 7
	ImmediateFreezeNoReply   FunctionCode = 8
	FreezeClear              FunctionCode = 9
	FreezeClearNoReply       FunctionCode = 10
	FreezeAtTime             FunctionCode = 11
	FreezeAtTimeNoReply      FunctionCode = 12
	ColdRestart              FunctionCode = 13
	WarmRestart              FunctionCode = 14
	InitializeData           FunctionCode = 15
	InitializeApplication    FunctionCode = 16
	StartApplication         FunctionCode = 17
	StopApplication          FunctionCode = 18
	SaveConfiguration        FunctionCode = 19
	EnableUnsolicited        FunctionCode = 20
	DisableUnsolicited       FunctionCode = 21
	AssignClass              FunctionCode = 22
	DelayMeasure             FunctionCode = 23
	RecordCurrentTime        FunctionCode = 24
	OpenFile                 FunctionCode = 25
	CloseFile                FunctionCode = 26
	DeleteFile               FunctionCode = 27
	GetFileInfo              FunctionCode = 28
	AuthenticateFile         FunctionCode = 29
	AbortFile                FunctionCode = 30
	ActivateConfiguration    FunctionCode = 31
	AuthenticateRequest      FunctionCode = 32
	AuthenticateRequestNoAck FunctionCode = 33
	Response                 FunctionCode = 129
	UnsolicitedResponse      FunctionCode = 130
	AuthenticateResponse     FunctionCode = 131
)

// functionNames are the standard's names in snake_case; a gap is reserved.
var functionNames = [...]string{
	Confirm: "confirm", Read: "read", Write: "write", Select: "select", Operate: "operate",
	DirectOperate: "direct_operate", DirectOperateNoReply: "direct_operate_nr",
	ImmediateFreeze: "immed_freeze", ImmediateFreezeNoReply: "immed_freeze_nr",
	FreezeClear: "freeze_clear", FreezeClearNoReply: "freeze_clear_nr",
	FreezeAtTime: "freeze_at_time", FreezeAtTimeNoReply: "freeze_at_time_nr",
	ColdRestart: "cold_restart", WarmRestart: "warm_restart",
	InitializeData: "initialize_data", InitializeApplication: "initialize_appl",
	StartApplication: "start_appl", StopApplication: "stop_appl", SaveConfiguration: "save_config",
	EnableUnsolicited: "enable_unsolicited", DisableUnsolicited: "disable_unsolicited",
	AssignClass: "assign_class", DelayMeasure: "delay_measure", RecordCurrentTime: "record_current_time",
	OpenFile: "open_file", CloseFile: "close_file", DeleteFile: "delete_file", GetFileInfo: "get_file_info",
	AuthenticateFile: "authenticate_file", AbortFile: "abort_file", ActivateConfiguration: "activate_config",
	AuthenticateRequest: "authenticate_req", AuthenticateRequestNoAck: "auth_req_no_ack",
	Response: "response", UnsolicitedResponse: "unsolicited_response", AuthenticateResponse: "authenticate_resp",
}

// Defined tells whether the standard defines the function, so that its objects are parsed; all
// others are carried raw.
func (f FunctionCode) Defined() bool {
	return int(f) < len(functionNames) && functionNames[f] != ""
}

// String returns the standard's name in snake_case, or unknown(0x7a).
func (f FunctionCode) String() string {
	if f.Defined() {
		return functionNames[f]
	}
	return fmt.Sprintf("unknown(0x%02x)", uint8(f))
}

// Controls tells whether the function carries control objects: select, operate and the direct
// operates.
func (f FunctionCode) Controls() bool { return f >= Select && f <= DirectOperateNoReply }

// OnFile tells whether the function acts on a file.
func (f FunctionCode) OnFile() bool { return f >= OpenFile && f <= AbortFile }

// Authenticates tells whether the function carries authentication and nothing else.
func (f FunctionCode) Authenticates() bool {
	return f == AuthenticateRequest || f == AuthenticateRequestNoAck || f == AuthenticateResponse
}

// Answered tells whether an outstation answers the request, other than by confirming it.
func (f FunctionCode) Answered() bool {
	switch f {
	case Confirm, DirectOperateNoReply, ImmediateFreezeNoReply, FreezeClearNoReply, FreezeAtTimeNoReply,
		AuthenticateRequestNoAck:
		return false
	}
	return true
}

// bare tells whether the function has no objects.
func (f FunctionCode) bare() bool {
	switch f {
	case Confirm, ColdRestart, WarmRestart, InitializeData, DelayMeasure, RecordCurrentTime:
		return true
	}
	return false
}

// carriesData tells whether the objects that a request names come with their contents, rather than
// being named only.
func (f FunctionCode) carriesData(group, variation uint8) bool {
	switch f {
	case Write, Select, Operate, DirectOperate, DirectOperateNoReply, AuthenticateRequest, AuthenticateRequestNoAck:
		return true
	case FreezeAtTime, FreezeAtTimeNoReply:
		return group == GroupTime
	}
	return f >= Response || group == GroupAuthentication || f.OnFile()
}
