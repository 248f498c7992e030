package modbus

import "fmt"

// ExceptionCode is the one byte that an exception reply carries (AP 7); 0 is no exception.
type ExceptionCode uint8

// The exception codes of AP 7.
const (
	IllegalFunction                    ExceptionCode = 1
	IllegalDataAddress                 ExceptionCode = 2
	IllegalDataValue                   ExceptionCode = 3
	ServerDeviceFailure                ExceptionCode = 4
	Acknowledge                        ExceptionCode = 5
	ServerDeviceBusy                   ExceptionCode = 6
	MemoryParityError                  ExceptionCode = 8
	GatewayPathUnavailable             ExceptionCode = 10
	GatewayTargetDeviceFailedToRespond ExceptionCode = 11
)

var exceptionNames = [...]string{
	0:                                  "none",
	IllegalFunction:                    "illegal_function",
	IllegalDataAddress:                 "illegal_data_address",
	IllegalDataValue:                   "illegal_data_value",
	ServerDeviceFailure:                "server_device_failure",
	Acknowledge:                        "acknowledge",
	ServerDeviceBusy:                   "server_device_busy",
	MemoryParityError:                  "memory_parity_error",
	GatewayPathUnavailable:             "gateway_path_unavailable",
	GatewayTargetDeviceFailedToRespond: "gateway_target_device_failed_to_respond",
}

// String returns the specification's name in snake_case, or unknown(0x07).
func (e ExceptionCode) String() string {
	if int(e) < len(exceptionNames) && exceptionNames[e] != "" {
		return exceptionNames[e]
	}
	return fmt.Sprintf("unknown(0x%02x)", uint8(e))
}
