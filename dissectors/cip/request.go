package cip

// Request is one service that is asked for. Slices alias the bytes that were parsed.
type Request struct {
	Code  ServiceCode
	Owner Owner // valid with PathKnown
	Path  Path

	// Offset is where the service begins in the message, Length how many bytes of it are announced,
	// Seen how many of these have arrived.
	Offset, Length, Seen int
	// PathKnown says that the whole path has arrived.
	PathKnown bool
	// Data are what follows the path, as far as they have arrived, of DataLength bytes.
	Data       []byte
	DataLength int

	head     []byte // code and path, with PathKnown
	repeated int    // bytes that were found to repeat the request, see repeatsItself

	// Depth is how many services this one is nested in.
	Depth int
}

// Complete tells whether the whole service has arrived.
func (r *Request) Complete() bool { return r.Seen == r.Length }

// Is tells whether the service is the one of that owner.
func (r *Request) Is(code ServiceCode, owner Owner) bool {
	return r.PathKnown && r.Code == code && (owner == AnyOwner || r.Owner == owner)
}

// Operation returns the service's name. Before the path is known the owner is not, and then codes from
// 0x4b up have none.
func (r *Request) Operation() string { return ServiceName(r.Code, r.Owner) }

// parse reads the service in b, of which length bytes are announced.
func (r *Request) parse(b []byte, length, offset int) *MalformedError {
	r.Code, r.Owner, r.PathKnown, r.head, r.Data, r.DataLength = 0, AnyOwner, false, nil, nil, 0
	r.Offset, r.Length, r.Seen = offset, length, len(b)
	r.Path.reset()
	const fixed = 2 // service, path size
	if length < fixed {
		return errShort
	}
	if len(b) == 0 {
		return nil
	}
	switch {
	case b[0]&replyBit != 0:
		return errReplyBit
	case b[0] == 0:
		return errCode
	}
	r.Code = ServiceCode(b[0])
	if len(b) < fixed {
		return nil
	}
	end := fixed + 2*int(b[1])
	if end > length {
		return errPathSize
	}
	if len(b) < end {
		return nil
	}
	if bad := r.Path.parse(b[fixed:end], Padded); bad != nil {
		return bad
	}
	r.PathKnown, r.Owner = true, r.Path.Owner()
	r.head, r.Data, r.DataLength = b[:end:end], b[end:len(b):len(b)], length-end
	return r.checkData()
}

// checkData judges the data of services whose layout is known.
func (r *Request) checkData() *MalformedError {
	switch {
	case r.Code == MultipleServicePacket:
		return checkPacket(r.Data, r.DataLength)
	case r.Owner == Tags:
		return r.checkTagData()
	case r.Owner == ConnectionManager:
		return r.checkConnectionData()
	case r.Is(ExecutePCCC, PCCC):
		var c Command
		return c.parse(r.Data, r.DataLength)
	}
	return nil
}

func (r *Request) checkConnectionData() *MalformedError {
	switch r.Code {
	case UnconnectedSend:
		var u unconnected
		return u.parse(r.Data, r.DataLength)
	case ForwardOpen, LargeForwardOpen:
		return checkOpen(r.Data, r.DataLength, r.Code == LargeForwardOpen)
	case ForwardClose:
		return checkClose(r.Data, r.DataLength)
	}
	return nil
}
