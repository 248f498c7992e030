package stream

import "errors"

// The TCP option kinds that pass, with their lengths where they are fixed. All others do not:
// Multipath TCP (30) makes the receiver order and discard by another sequence than the one
// inspected, Fast Open (34) puts data on the SYN, and authentication (19, 29) makes it discard
// what we take for received.
const (
	optionEnd           = 0
	optionNOP           = 1
	optionMSS           = 2
	optionWindowScale   = 3
	optionSACKPermitted = 4
	optionSACK          = 5
	optionTimestamps    = 8
)

// ErrOptions says that a list of TCP options is malformed: an option reaches over the end of the
// list, is shorter than its own header, or a known option does not have its length.
var ErrOptions = errors.New("read TCP options: malformed list")

// EditSYNOptions overwrites, in place, every option outside the permit list of a SYN or SYN-ACK
// with NOPs of equal length, and whatever follows an end-of-list with zeros. It returns the
// number of bytes that it changed; if that is not 0 the caller recomputes the checksum. With an
// error (ErrOptions) nothing was changed.
func EditSYNOptions(options []byte) (int, error) {
	if _, _, err := synOptions(options); err != nil {
		return 0, err
	}
	changed, rest := 0, options
	for len(rest) > 0 && rest[0] != optionEnd {
		n, permitted, _ := nextOption(rest)
		if !permitted {
			changed += fill(rest[:n], optionNOP)
		}
		rest = rest[n:]
	}
	return changed + fill(rest, optionEnd), nil
}

// fill sets every byte of b to v and returns how many it changed.
func fill(b []byte, v byte) int {
	changed := 0
	for i := range b {
		if b[i] != v {
			b[i] = v
			changed++
		}
	}
	return changed
}

// nextOption returns the length of the option that the list begins with and whether the permit
// list has it. The list is not empty and does not begin with an end-of-list.
func nextOption(list []byte) (n int, permitted bool, err error) {
	if list[0] == optionNOP {
		return 1, true, nil
	}
	if len(list) < 2 || list[1] < 2 || int(list[1]) > len(list) {
		return 0, false, ErrOptions
	}
	n = int(list[1])
	want := n
	switch list[0] {
	case optionMSS:
		want = 4
	case optionWindowScale:
		want = 3
	case optionSACKPermitted:
		want = 2
	case optionTimestamps:
		want = 10
	case optionSACK: // one to four blocks of two numbers (RFC 2018, section 3)
		if n < 10 || (n-2)%8 != 0 {
			return 0, false, ErrOptions
		}
	default:
		return n, false, nil
	}
	if n != want {
		return 0, false, ErrOptions
	}
	return n, true, nil
}

// permittedOptions reports whether every option of a segment without SYN is on the permit list,
// and nothing but zeros follows an end-of-list (RFC 9293, section 3.1: the padding is zeros).
func permittedOptions(list []byte) bool {
	for len(list) > 0 && list[0] != optionEnd {
		n, permitted, err := nextOption(list)
		if err != nil || !permitted {
			return false
		}
		list = list[n:]
	}
	for _, b := range list {
		if b != 0 {
			return false
		}
	}
	return true
}

// synOptions checks the options of a SYN and returns its window scale. Options outside the
// permit list are no error here: EditSYNOptions overwrites them. Of several scales the widest
// counts, because receivers differ over which one does.
func synOptions(list []byte) (scale uint8, hasScale bool, err error) {
	for len(list) > 0 && list[0] != optionEnd {
		n, _, err := nextOption(list)
		if err != nil {
			return 0, false, err
		}
		if list[0] == optionWindowScale {
			scale, hasScale = max(scale, min(list[2], widestScaling)), true
		}
		list = list[n:]
	}
	return scale, hasScale, nil
}
