package dnp3

// IIN is the internal indications of a response (clause 4.2.2.6): the first octet on the wire, IIN1,
// in the upper half, as it is usually printed.
type IIN uint16

// The indications.
const (
	IINBroadcast          IIN = 1 << (8 + iota) // IIN1.0
	IINClass1Events                             // IIN1.1
	IINClass2Events                             // IIN1.2
	IINClass3Events                             // IIN1.3
	IINNeedTime                                 // IIN1.4
	IINLocalControl                             // IIN1.5
	IINDeviceTrouble                            // IIN1.6
	IINDeviceRestart                            // IIN1.7
	IINNoFunctionCode     IIN = 1 << (iota - 8) // IIN2.0
	IINObjectUnknown                            // IIN2.1
	IINParameterError                           // IIN2.2
	IINEventOverflow                            // IIN2.3
	IINAlreadyExecuting                         // IIN2.4
	IINConfigurationError                       // IIN2.5
)
