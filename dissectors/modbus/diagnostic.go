package modbus

import "fmt"

// The sub-functions of Diagnostics (AP 6.8.1). All others are reserved.
const (
	ReturnQueryData                    uint16 = 0x00
	RestartCommunicationsOption        uint16 = 0x01
	ReturnDiagnosticRegister           uint16 = 0x02
	ChangeASCIIInputDelimiter          uint16 = 0x03
	ForceListenOnlyMode                uint16 = 0x04
	ClearCountersAndDiagnosticRegister uint16 = 0x0a
	ReturnBusMessageCount              uint16 = 0x0b
	ReturnBusCommunicationErrorCount   uint16 = 0x0c
	ReturnBusExceptionErrorCount       uint16 = 0x0d
	ReturnServerMessageCount           uint16 = 0x0e
	ReturnServerNoResponseCount        uint16 = 0x0f
	ReturnServerNAKCount               uint16 = 0x10
	ReturnServerBusyCount              uint16 = 0x11
	ReturnBusCharacterOverrunCount     uint16 = 0x12
	ClearOverrunCounterAndFlag         uint16 = 0x14
)

// diagnosticLength is the length of a sub-function and one data word.
const diagnosticLength = 4

// subFunctionNames are the specification's names in snake_case; a gap is reserved.
var subFunctionNames = [...]string{
	ReturnQueryData:                    "return_query_data",
	RestartCommunicationsOption:        "restart_communications_option",
	ReturnDiagnosticRegister:           "return_diagnostic_register",
	ChangeASCIIInputDelimiter:          "change_ascii_input_delimiter",
	ForceListenOnlyMode:                "force_listen_only_mode",
	ClearCountersAndDiagnosticRegister: "clear_counters_and_diagnostic_register",
	ReturnBusMessageCount:              "return_bus_message_count",
	ReturnBusCommunicationErrorCount:   "return_bus_communication_error_count",
	ReturnBusExceptionErrorCount:       "return_bus_exception_error_count",
	ReturnServerMessageCount:           "return_server_message_count",
	ReturnServerNoResponseCount:        "return_server_no_response_count",
	ReturnServerNAKCount:               "return_server_nak_count",
	ReturnServerBusyCount:              "return_server_busy_count",
	ReturnBusCharacterOverrunCount:     "return_bus_character_overrun_count",
	ClearOverrunCounterAndFlag:         "clear_overrun_counter_and_flag",
}

// publicSubFunction tells whether the specification defines the sub-function.
func publicSubFunction(sub uint16) bool {
	return int(sub) < len(subFunctionNames) && subFunctionNames[sub] != ""
}

// SubFunctionName returns the specification's name of a diagnostic sub-function in snake_case,
// or unknown(0x0015).
func SubFunctionName(sub uint16) string {
	if publicSubFunction(sub) {
		return subFunctionNames[sub]
	}
	return fmt.Sprintf("unknown(0x%04x)", sub)
}

// readOnlySubFunction tells whether the sub-function leaves the device as it was: the echo and
// the counters. The others restart its port, silence it, change its delimiter or clear evidence.
func readOnlySubFunction(sub uint16) bool {
	return sub == ReturnQueryData || sub == ReturnDiagnosticRegister ||
		sub >= ReturnBusMessageCount && sub <= ReturnBusCharacterOverrunCount
}

// checkDiagnostics judges sub-function and data; want is the length of both by the header.
func checkDiagnostics(body []byte, want int, response bool) *MalformedError {
	if want < diagnosticLength || want%2 != 0 {
		return errFunctionLength
	}
	if len(body) < 2 {
		return nil
	}
	sub := value16(body, 0)
	if sub == ReturnQueryData || !publicSubFunction(sub) {
		return nil // N words of any content
	}
	if want != diagnosticLength {
		return errFunctionLength
	}
	if response {
		return checkDiagnosticReply(sub, body)
	}
	return checkDiagnosticRequest(sub, body)
}

// checkDiagnosticRequest judges the data word of a defined sub-function (AP 6.8.1).
func checkDiagnosticRequest(sub uint16, body []byte) *MalformedError {
	var bad bool
	switch sub {
	case RestartCommunicationsOption: // 0xFF00 also clears the event log
		bad = byteIsNot(body, 2, 0x00) && byteIsNot(body, 2, 0xff) || byteIsNot(body, 3, 0)
	case ChangeASCIIInputDelimiter: // the character, then 0
		bad = byteIsNot(body, 3, 0)
	default:
		bad = byteIsNot(body, 2, 0) || byteIsNot(body, 3, 0)
	}
	if bad {
		return errDiagnosticData
	}
	return nil
}

// checkDiagnosticReply judges the data word of a reply: an echo for those that set, any word for
// those that return one, and no reply at all from a device told to be silent.
func checkDiagnosticReply(sub uint16, body []byte) *MalformedError {
	switch sub {
	case ForceListenOnlyMode:
		return errListenOnly
	case RestartCommunicationsOption, ChangeASCIIInputDelimiter,
		ClearCountersAndDiagnosticRegister, ClearOverrunCounterAndFlag:
		return checkDiagnosticRequest(sub, body)
	}
	return nil
}
