package cip

import (
	"encoding/hex"
)

// Fields is a service as people and other programs read it. A field that the service does not have is
// absent. Making it allocates: it is for lists of messages, not for the line.
type Fields struct {
	Service    ServiceCode `json:"service"` // as a number, without the reply bit
	Class      *uint32     `json:"class,omitempty"`
	Instance   *uint32     `json:"instance,omitempty"`
	Attribute  *uint32     `json:"attribute,omitempty"`
	Parents    []Object    `json:"parents,omitempty"` // the objects that the instance lies in
	Tag        string      `json:"tag,omitempty"`
	Member     string      `json:"member,omitempty"`
	Points     []uint32    `json:"points,omitempty"`
	Status     *uint8      `json:"status,omitempty"`
	Additional []uint16    `json:"additional_status,omitempty"`
	Route      []string    `json:"route,omitempty"`      // hop by hop
	Connection *uint32     `json:"connection,omitempty"` // the identifier it was sent on
	Sequence   *uint16     `json:"sequence,omitempty"`
	Within     []string    `json:"within,omitempty"` // outermost first

	Type    *DataType   `json:"type,omitempty"`
	Count   *uint16     `json:"count,omitempty"`
	Offset  *uint32     `json:"offset,omitempty"`
	Open    *OpenFields `json:"open,omitempty"`
	PCCC    *PCCCFields `json:"pccc,omitempty"`
	Data    string      `json:"data,omitempty"` // hexadecimal, of what is not parsed further
	Triad   *Triad      `json:"triad,omitempty"`
	Opened  []uint32    `json:"opened,omitempty"` // the identifiers, originator to target first
	Objects string      `json:"path,omitempty"`   // of a Forward Open or Close: what it leads to
}

// OpenFields is what a Forward Open asks for.
type OpenFields struct {
	Class        uint8           `json:"transport_class"`
	Multiplier   int             `json:"timeout_multiplier"`
	ToTarget     DirectionFields `json:"o_t"`
	ToOriginator DirectionFields `json:"t_o"`
	Safety       bool            `json:"safety,omitempty"`
}

// DirectionFields is one direction of it.
type DirectionFields struct {
	ID       uint32 `json:"id"`
	RPI      int64  `json:"rpi"` // microseconds
	Type     string `json:"type"`
	Size     uint16 `json:"size"`
	Variable bool   `json:"variable,omitempty"`
	Owner    bool   `json:"redundant_owner,omitempty"`
}

// PCCCFields is a PCCC command.
type PCCCFields struct {
	Command  uint8  `json:"command"`
	Function *uint8 `json:"function,omitempty"`
	Name     string `json:"name"`
	Address  string `json:"address,omitempty"`
	Elements uint32 `json:"elements,omitempty"`
}

// String returns the type's name.
func (t ConnectionType) String() string {
	switch t {
	case TypeNull:
		return "null"
	case TypeMulticast:
		return "multicast"
	case TypePointToPoint:
		return "point_to_point"
	}
	return "reserved"
}

// Fields returns the fields of a complete service, but for what its surroundings say (see SetRoute and
// the fields Connection, Sequence and Within).
func (r *Request) Fields() Fields {
	f := Fields{Service: r.Code}
	f.setPath(&r.Path)
	f.SetRoute(r.Path.Hops())
	switch {
	case r.Owner == Tags:
		f.setAccess(r)
	case r.Is(ExecutePCCC, PCCC):
		f.setCommand(r)
	case r.Owner == ConnectionManager && r.Code >= 0x4b:
		f.setConnection(r)
	case r.Code != MultipleServicePacket:
		f.Data = hex.EncodeToString(r.Data)
	}
	return f
}

// SetPath gives a reply what its request named.
func (f *Fields) SetPath(p *Path) { f.setPath(p) }

func (f *Fields) setPath(p *Path) {
	if p.HasClass {
		f.Class = new(p.Class)
	}
	if p.HasInstance {
		f.Instance = new(p.Instance)
	}
	if p.HasAttribute {
		f.Attribute = new(p.Attribute)
	}
	f.Parents = append([]Object(nil), p.Parents()...)
	f.Tag, f.Member = string(p.Tag()), string(p.Member())
	f.Points = append([]uint32(nil), p.Points()...)
}

// SetRoute sets the route.
func (f *Fields) SetRoute(hops []Hop) {
	f.Route = nil
	for _, h := range hops {
		f.Route = append(f.Route, h.String())
	}
}

func (f *Fields) setAccess(r *Request) {
	a := r.TagAccess()
	switch r.Code {
	case ReadTag, ReadTagFragmented, WriteTag, WriteTagFragmented:
		f.Count = new(a.Count)
	default:
		f.Data = hex.EncodeToString(r.Data)
		return
	}
	if r.Code == WriteTag || r.Code == WriteTagFragmented {
		f.Type, f.Data = new(a.Type), hex.EncodeToString(a.Written)
	}
	if r.Code == ReadTagFragmented || r.Code == WriteTagFragmented {
		f.Offset = new(a.Offset)
	}
}

func (f *Fields) setCommand(r *Request) {
	c, ok := r.Command()
	if !ok {
		return
	}
	p := PCCCFields{Command: c.Function.Command, Name: c.Function.String()}
	if c.Function.HasSub {
		p.Function = new(c.Function.Sub)
	}
	if c.HasAddress {
		p.Address, p.Elements = c.Spelling(), c.Elements
	}
	f.PCCC = &p
}

func (f *Fields) setConnection(r *Request) {
	var o Open
	var c Close
	var hops [MaxHops]Hop
	switch {
	case r.ForwardOpen(&o):
		f.SetRoute(o.Path.Hops())
		t := o.Triad
		f.Triad = &t
		f.Objects = o.Path.String()
		f.Open = &OpenFields{
			Class: o.Class, Multiplier: 4 << o.Multiplier, Safety: o.Path.Safety,
			ToTarget: o.ToTarget.fields(), ToOriginator: o.ToOriginator.fields(),
		}
	case r.ForwardClose(&c):
		f.SetRoute(c.Path.Hops())
		t := c.Triad
		f.Triad = &t
		f.Objects = c.Path.String()
	case r.Code == UnconnectedSend:
		route, _ := r.UnconnectedRoute(&hops)
		f.SetRoute(route)
	}
}

func (n *NetworkParameters) fields() DirectionFields {
	return DirectionFields{
		ID: n.ID, RPI: n.RPI.Microseconds(), Type: n.Type.String(), Size: n.Size, Variable: n.Variable, Owner: n.Owner,
	}
}

// Fields returns the fields of a whole reply; what the request named is for SetPath.
func (r *Reply) Fields() Fields {
	f := Fields{Service: r.Code, Status: new(r.Status)}
	for i := 0; i+1 < len(r.Additional); i += 2 {
		f.Additional = append(f.Additional, value16(r.Additional, i))
	}
	if !r.Packet() {
		f.Data = hex.EncodeToString(r.Data)
	}
	return f
}
