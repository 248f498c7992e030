package enip

import "fmt"

// Command is an encapsulation command (V2 2-3.2).
type Command uint16

// The commands of V2 table 2-3.2. Those up to 3 are no part of the specification: the protocol that
// came before (CSP, port 2222) and early stacks used them, and some devices still answer.
const (
	NOP               Command = 0x0000
	Legacy1           Command = 0x0001
	Legacy2           Command = 0x0002
	Legacy3           Command = 0x0003
	ListServices      Command = 0x0004
	ListIdentity      Command = 0x0063
	ListInterfaces    Command = 0x0064
	RegisterSession   Command = 0x0065
	UnregisterSession Command = 0x0066
	SendRRData        Command = 0x006f
	SendUnitData      Command = 0x0070
	IndicateStatus    Command = 0x0072
	Cancel            Command = 0x0073
	StartDTLS         Command = 0x00c8
)

// Named is a command and its name in snake_case.
type Named struct {
	Command Command
	Name    string
}

// commandNames are those that have one, in numerical order.
var commandNames = [...]Named{
	{NOP, "nop"},
	{Legacy1, "legacy_1"},
	{Legacy2, "legacy_2"},
	{Legacy3, "legacy_3"},
	{ListServices, "list_services"},
	{ListIdentity, "list_identity"},
	{ListInterfaces, "list_interfaces"},
	{RegisterSession, "register_session"},
	{UnregisterSession, "unregister_session"},
	{SendRRData, "send_rr_data"},
	{SendUnitData, "send_unit_data"},
	{IndicateStatus, "indicate_status"},
	{Cancel, "cancel"},
	{StartDTLS, "start_dtls"},
}

// Commands returns the commands that have names. The caller must not change the list.
func Commands() []Named { return commandNames[:] }

// String returns the command's name in snake_case, or unknown(0x0005).
func (c Command) String() string {
	for _, n := range commandNames {
		if n.Command == c {
			return n.Name
		}
	}
	return fmt.Sprintf("unknown(0x%04x)", uint16(c))
}

// CarriesCIP tells whether the command's data is an interface handle, a time-out and items.
func (c Command) CarriesCIP() bool { return c == SendRRData || c == SendUnitData }

// HasLayout tells whether the command's data, if it has any, have a layout: of others nobody looks at what they are.
func (c Command) HasLayout() bool {
	return c.CarriesCIP() || c.OverUDP() || c == RegisterSession || c == UnregisterSession
}

// OverUDP tells whether the command is lawful in a datagram (V2 2-2): the discovery commands, which
// need no session.
func (c Command) OverUDP() bool {
	return c == ListServices || c == ListIdentity || c == ListInterfaces
}

// HasReply tells whether the receiver answers the command (V2 2-4): all but NOP, UnregisterSession and
// SendUnitData, whose replies are messages of their own.
func (c Command) HasReply() bool {
	return c != NOP && c != UnregisterSession && c != SendUnitData
}
