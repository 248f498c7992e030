package enip

import "encoding/hex"

// Fields is a message as people and other programs read it. Making it allocates: it is for lists of
// messages, not for the line.
type Fields struct {
	Command      Command  `json:"command"` // as a number
	Session      uint32   `json:"session"`
	Status       uint32   `json:"status"`
	Context      string   `json:"context"` // hexadecimal
	Length       int      `json:"length"`
	Timeout      *uint16  `json:"timeout,omitempty"`
	Items        []string `json:"items,omitempty"` // in the order of the wire
	Connection   *uint32  `json:"connection,omitempty"`
	SocketTarget string   `json:"sockaddr_o_t,omitempty"`
	SocketSource string   `json:"sockaddr_t_o,omitempty"`
	Data         string   `json:"data,omitempty"` // hexadecimal, of what is not parsed further
}

// Fields returns the fields of a complete message.
func (m *Message) Fields() Fields {
	f := Fields{
		Command: m.Command, Session: m.Session, Status: m.Status,
		Context: hex.EncodeToString(m.Context[:]), Length: m.Length,
	}
	if !m.Command.CarriesCIP() {
		f.Data = hex.EncodeToString(m.Data)
		return f
	}
	f.Timeout = new(m.Timeout)
	for _, item := range m.Items[:m.ItemCount] {
		f.Items = append(f.Items, item.Type.String())
	}
	if m.Connected {
		f.Connection = new(m.ConnectionID)
	}
	if m.ToTarget.Given {
		f.SocketTarget = m.ToTarget.Address.String()
	}
	if m.ToSource.Given {
		f.SocketSource = m.ToSource.Address.String()
	}
	return f
}
