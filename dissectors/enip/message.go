package enip

// The header (V2 2-3.1).
const (
	offsetLength  = 2
	offsetSession = 4
	offsetStatus  = 8
	offsetContext = 12
	offsetOptions = 20

	// HeaderLength is the size of the encapsulation header in bytes.
	HeaderLength = 24
	// maxData is the longest data: 65535 less the header (V2 2-3.3).
	maxData = 65511
	// MaxMessage is the largest message in bytes, header included.
	MaxMessage = HeaderLength + maxData
)

// Direction tells requests from replies, which the header does not.
type Direction uint8

// The directions: of TCP, from the end that connected and to it.
const (
	Request Direction = iota
	Reply
)

// Message is one encapsulated message. Slices alias the bytes that were parsed. A field that the
// command does not have, or that has not arrived yet, is zero.
type Message struct {
	Command Command
	Session uint32
	Status  uint32
	Context [8]byte // the sender's, which its reply repeats

	// Length is the header's length field: the bytes behind the header.
	Length int
	// Seen is how many bytes of this message have arrived, HeaderLength+Length once it is complete.
	Seen int
	// Data is everything behind the header.
	Data []byte

	// Timeout is in seconds, of SendRRData; 0 leaves it to the service (V2 2-4.7).
	Timeout uint16

	// Items are those of SendRRData and SendUnitData, in the order of the wire. In a prefix, those of
	// which type and length have arrived.
	Items     [MaxItems]Item
	ItemCount int

	// Payload is the CIP message, PayloadLength what is announced of it, and PayloadOffset where it
	// begins in the message; Known tells whether its item has come at all.
	Payload       []byte
	PayloadLength int
	PayloadOffset int
	PayloadKnown  bool
	// Connected says that the payload belongs to the connection ConnectionID, and begins with a
	// sequence count.
	Connected    bool
	ConnectionID uint32

	// ToTarget and ToSource are the socket addresses that accompany a Forward Open and its reply.
	ToTarget, ToSource Socket
}

// Complete tells whether the whole message has arrived.
func (m *Message) Complete() bool { return m.Seen >= HeaderLength && m.Seen == HeaderLength+m.Length }

// KnowsCommand tells whether the command has arrived.
func (m *Message) KnowsCommand() bool { return m.Seen >= offsetLength }

// KnowsHeader tells whether the whole header has arrived.
func (m *Message) KnowsHeader() bool { return m.Seen >= HeaderLength }

// InOrder tells whether the address item is the first and the data item the second, as V2 2-6.1 has
// it. Receivers exist that go by position and not by type.
func (m *Message) InOrder() bool {
	first := m.ItemCount < 1 || isAddress(m.Items[0].Type)
	return first && (m.ItemCount < 2 || isData(m.Items[1].Type))
}

func isAddress(t ItemType) bool { return t == NullAddress || t == ConnectedAddress }
func isData(t ItemType) bool    { return t == UnconnectedData || t == ConnectedData }

// Parse reads the message at the beginning of b into m and returns its size in bytes.
//
// The error is ErrNeedMore when b is a proper prefix of a message that may still be lawful, and a
// *MalformedError once a field has arrived by which it cannot be; the size is then 0. With ErrNeedMore m holds the fields
// that have arrived; with a *MalformedError what it holds is fit for a record of the event only.
func Parse(b []byte, d Direction, m *Message) (n int, err error) {
	m.reset(len(b))
	m.Command = Command(value16(b, 0))
	m.Length = int(value16(b, offsetLength))
	m.Session = value32(b, offsetSession)
	m.Status = value32(b, offsetStatus)
	if len(b) > offsetContext {
		copy(m.Context[:], b[offsetContext:])
	}
	if bad := m.checkHeader(b, d); bad != nil {
		return 0, bad
	}
	if len(b) < HeaderLength {
		return 0, ErrNeedMore
	}
	n = HeaderLength + m.Length
	m.Seen = min(len(b), n)
	m.Data = b[HeaderLength:m.Seen:m.Seen]
	if bad := m.parseData(d); bad != nil {
		return 0, bad
	}
	if len(b) < n {
		return 0, ErrNeedMore
	}
	return n, nil
}

// reset clears m, but for items that ItemCount does not count.
func (m *Message) reset(seen int) {
	m.Command, m.Session, m.Status, m.Context = 0, 0, 0, [8]byte{}
	m.Length, m.Seen, m.Data, m.Timeout, m.ItemCount = 0, seen, nil, 0, 0
	m.Payload, m.PayloadLength, m.PayloadOffset, m.PayloadKnown = nil, 0, 0, false
	m.Connected, m.ConnectionID = false, 0
	m.ToTarget, m.ToSource = Socket{}, Socket{}
}

// checkHeader judges as much of the header as has arrived.
func (m *Message) checkHeader(b []byte, d Direction) *MalformedError {
	if len(b) == offsetLength+1 && !fitsFixed(m.Command, d, b[offsetLength]) {
		return errLength
	}
	if len(b) >= offsetSession {
		if m.Length > maxData {
			return errTooLong
		}
		if bad := m.checkLength(d); bad != nil {
			return bad
		}
	}
	if bad := m.checkSession(b, d); bad != nil {
		return bad
	}
	for i := offsetStatus; i < min(len(b), offsetContext) && d == Request; i++ {
		if b[i] != 0 {
			return errStatus
		}
	}
	if len(b) >= offsetContext && d == Reply && m.Length == 0 && m.Status == 0 && needsData(m.Command) {
		return errLength
	}
	for i := offsetOptions; i < min(len(b), HeaderLength); i++ {
		if b[i] != 0 {
			return errOptions
		}
	}
	return nil
}

// checkLength judges the length by the command (V2 2-4). A reply that reports an error has no data, and
// whether it does is not known yet.
func (m *Message) checkLength(d Direction) *MalformedError {
	n := m.Length
	var bad bool
	switch m.Command {
	case ListServices, ListIdentity, ListInterfaces:
		bad = d == Request && n != 0 || d == Reply && n == 1
	case RegisterSession:
		bad = n != registerLength && (d == Request || n != 0)
	case UnregisterSession:
		bad = n != 0
	case SendRRData, SendUnitData:
		bad = n < cpfLength+2*itemHeader && (d == Request || n != 0)
	}
	if bad {
		return errLength
	}
	return nil
}

// fitsFixed tells whether a length may begin with the low byte: of some commands it is fixed.
func fitsFixed(c Command, d Direction, low byte) bool {
	switch c {
	case ListServices, ListIdentity, ListInterfaces:
		return d == Reply || low == 0
	case RegisterSession:
		return low == registerLength || d == Reply && low == 0
	case UnregisterSession:
		return low == 0
	}
	return true
}

// checkSession judges the handle of a request (V2 2-4): registering gives one, and CIP needs one.
func (m *Message) checkSession(b []byte, d Direction) *MalformedError {
	if d == Reply {
		return nil
	}
	for i := offsetSession; i < min(len(b), offsetStatus) && m.Command == RegisterSession; i++ {
		if b[i] != 0 {
			return errSessionGiven
		}
	}
	if len(b) >= offsetStatus && m.Command.CarriesCIP() && m.Session == 0 {
		return errSessionZero
	}
	return nil
}

const (
	registerLength = 4 // protocol version and options
	cpfLength      = 8 // interface handle, time-out, item count
	itemHeader     = 4
)

// parseData reads what follows the header.
func (m *Message) parseData(d Direction) *MalformedError {
	switch {
	case m.Length == 0:
		return nil
	case m.Command == RegisterSession:
		return m.checkRegister()
	case m.Command.CarriesCIP():
		return m.parseCPF(d)
	case m.Command == ListServices || m.Command == ListIdentity || m.Command == ListInterfaces:
		return m.checkList()
	}
	return nil // no length of its own: what the header says
}

// needsData tells whether a reply of the command that reports no error has data.
func needsData(c Command) bool {
	switch c {
	case ListServices, ListIdentity, ListInterfaces, RegisterSession, SendRRData, SendUnitData:
		return true
	}
	return false
}

// checkRegister judges the data of RegisterSession: version 1 and no options (V2 2-4.4). A reply that
// refuses them names the version that the device has.
func (m *Message) checkRegister() *MalformedError {
	if m.Status != 0 {
		return nil
	}
	if byteIsNot(m.Data, 0, 1) || byteIsNot(m.Data, 1, 0) || byteIsNot(m.Data, 2, 0) || byteIsNot(m.Data, 3, 0) {
		return errVersion
	}
	return nil
}

// checkList judges the items of a reply to a discovery command: any types, and exactly as many as are
// announced, up to MaxListItems.
func (m *Message) checkList() *MalformedError {
	count, rest, left := int(value16(m.Data, 0)), from(m.Data, 2), m.Length-2
	if len(m.Data) < 2 {
		return nil
	}
	if count > MaxListItems {
		return errListItems
	}
	for range count {
		if left < itemHeader {
			return errListCount
		}
		if len(rest) < itemHeader {
			return nil
		}
		size := itemHeader + int(value16(rest, 2))
		if size > left {
			return errItemLength
		}
		rest, left = from(rest, size), left-size
	}
	if left != 0 {
		return errTrailing
	}
	return nil
}

// List goes through the items of a whole reply to a discovery command.
type List struct {
	Item Item
	rest []byte
	left int
}

// List returns the items of a whole reply to ListIdentity, ListServices or ListInterfaces.
func (m *Message) List() List {
	if !m.Complete() || len(m.Data) < 2 {
		return List{}
	}
	return List{rest: m.Data[2:], left: int(value16(m.Data, 0))}
}

// Next finds the next item, and returns false if there is none.
func (l *List) Next() bool {
	if l.left == 0 || len(l.rest) < itemHeader {
		return false
	}
	l.Item = Item{Type: ItemType(value16(l.rest, 0)), Length: int(value16(l.rest, 2))}
	end := itemHeader + l.Item.Length
	if len(l.rest) < end {
		return false
	}
	l.Item.Data = l.rest[itemHeader:end:end]
	l.rest, l.left = l.rest[end:], l.left-1
	return true
}

// parseCPF reads interface handle, time-out and items (V2 2-6).
func (m *Message) parseCPF(d Direction) *MalformedError {
	for i := range min(4, len(m.Data)) {
		if m.Data[i] != 0 {
			return errInterface
		}
	}
	m.Timeout = value16(m.Data, 4)
	if byteIsNot(m.Data, 7, 0) || len(m.Data) > 6 && (m.Data[6] < 2 || m.Data[6] > MaxItems) {
		return errItemCount
	}
	if len(m.Data) < cpfLength {
		return nil
	}
	return m.parseItems(int(m.Data[6]), d)
}

func (m *Message) parseItems(count int, d Direction) *MalformedError {
	at := cpfLength
	for left := count; left > 0; left-- {
		if m.Length-at < left*itemHeader {
			return errItemLength
		}
		if len(m.Data) < at+itemHeader {
			return m.checkItemStart(at)
		}
		item := Item{Type: ItemType(value16(m.Data, at)), Length: int(value16(m.Data, at+2))}
		at += itemHeader
		if item.Length > m.Length-at-(left-1)*itemHeader {
			return errItemLength
		}
		if left == 1 && item.Length != m.Length-at {
			return errTrailing
		}
		if len(m.Data) > at {
			end := min(at+item.Length, len(m.Data))
			item.Data = m.Data[at:end:end]
		}
		if bad := m.addItem(item, at, d); bad != nil {
			return bad
		}
		at += item.Length
		if bad := m.checkItemSet(left-1, m.Length-at); bad != nil {
			return bad
		}
	}
	return nil
}

// checkItemStart judges the type of an item whose header has not arrived whole.
func (m *Message) checkItemStart(at int) *MalformedError {
	if len(m.Data) < at+2 {
		return nil
	}
	t := ItemType(value16(m.Data, at))
	if _, ok := itemSize(t); !ok {
		return errItemType
	}
	return m.checkTwice(t)
}

// addItem judges one item and files it.
func (m *Message) addItem(item Item, at int, d Direction) *MalformedError {
	size, ok := itemSize(item.Type)
	switch {
	case !ok:
		return errItemType
	case size >= 0 && item.Length != size:
		return errItemSize
	}
	if bad := m.checkTwice(item.Type); bad != nil {
		return bad
	}
	m.Items[m.ItemCount] = item
	m.ItemCount++
	switch item.Type {
	case ConnectedAddress:
		m.Connected, m.ConnectionID = true, value32(item.Data, 0)
	case ConnectedData, UnconnectedData:
		m.Connected = item.Type == ConnectedData
		m.Payload, m.PayloadLength, m.PayloadOffset, m.PayloadKnown = item.Data, item.Length, HeaderLength+at, true
	case SocketToTarget:
		m.ToTarget = socketOf(item.Data)
		return checkSocket(item.Data, d)
	case SocketToSource:
		m.ToSource = socketOf(item.Data)
		return checkSocket(item.Data, d)
	}
	return nil
}

// checkTwice refuses a second item of a kind, and one that does not go with those before it: an address
// of a connection belongs with its data, and neither with SendRRData, whose items are for no connection
// (V2 2-4.7, 2-4.8).
func (m *Message) checkTwice(t ItemType) *MalformedError {
	connected := m.Command == SendUnitData
	switch t {
	case NullAddress, UnconnectedData:
		if connected {
			return errItemType
		}
	case ConnectedAddress, ConnectedData:
		if !connected {
			return errItemType
		}
	}
	for _, other := range m.Items[:m.ItemCount] {
		if other.Type == t {
			return errItemTwice
		}
	}
	return nil
}

// checkItemSet judges whether address and data can still both come, left items being outstanding in
// bytes bytes.
func (m *Message) checkItemSet(left, bytes int) *MalformedError {
	address, data := false, false
	for _, item := range m.Items[:m.ItemCount] {
		address = address || isAddress(item.Type)
		data = data || isData(item.Type)
	}
	sockets, least := left, left*itemHeader
	if !data {
		sockets--
	}
	if !address {
		sockets--
		if m.Command == SendUnitData {
			least += 4 // the connection's identifier
		}
	}
	switch {
	case sockets < 0:
		return errItemMissing
	case bytes < least+sockets*socketLength:
		return errItemLength
	}
	return nil
}
