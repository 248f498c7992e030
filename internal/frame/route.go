package frame

// Options of IPv4 that name further addresses (RFC 791 3.1), and those that end and fill the list.
const (
	optionEnd         = 0
	optionNOP         = 1
	optionLooseRoute  = 131
	optionStrictRoute = 137
)

// SourceRouted reports whether the packet names further addresses to go on to than the one that it
// is sent to: an IPv4 source route, or an IPv6 routing header with segments left.
func (f *Frame) SourceRouted() bool {
	switch {
	case f.IPVersion == 4 && len(f.IPHeader) > 20:
		return sourceRoute(f.IPHeader[20:])
	case f.IPVersion == 6 && len(f.IPHeader) > 40:
		return segmentsLeft(f.IPHeader)
	}
	return false
}

func sourceRoute(options []byte) bool {
	for len(options) > 0 {
		switch options[0] {
		case optionEnd:
			return false
		case optionLooseRoute, optionStrictRoute:
			return true
		case optionNOP:
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return false
		}
		options = options[options[1]:]
	}
	return false
}

func segmentsLeft(header []byte) bool {
	kind, rest := header[6], header[40:]
	for len(rest) >= 8 && isExtension(kind) {
		if kind == headerRouting && rest[3] != 0 {
			return true
		}
		length := extensionLength(kind, rest)
		if length > len(rest) {
			return false
		}
		kind, rest = rest[0], rest[length:]
	}
	return false
}
