package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// sight is what Look keeps from one look to the next: sockets, which belong for good to the namespace
// that they were opened in. Without them each look would make and end a thread there, beside verdict
// loops that wait for packets, and read all rules back. It belongs to one goroutine at a time.
type sight struct {
	links, rules asker
	// generation is that of the ruleset in which the rules stood, and stood says that there was one.
	generation uint32
	stood      bool
}

// openSight is called in the line's namespace.
func openSight() (*sight, error) {
	s := &sight{links: asker{fd: -1}, rules: asker{fd: -1}}
	err := errors.Join(s.links.open(unix.NETLINK_ROUTE), s.rules.open(unix.NETLINK_NETFILTER))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look at the line: %w", err), s.close())
	}
	return s, nil
}

func (s *sight) close() error { return errors.Join(s.links.close(), s.rules.close()) }

// seen is what a look sees of an interface.
type seen struct {
	index, master int // master is 0 where there is none
	flags         uint32
}

var errShortAnswer = errors.New("the kernel's answer is too short")

// withoutStatistics is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h.
const withoutStatistics = 1 << 3

// link looks at an interface by its name; false if there is none.
func (s *sight) link(name string) (l seen, present bool, err error) {
	body := make([]byte, unix.SizeofIfInfomsg, 64)
	body = append(body, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)).Serialize()...)
	body = append(body, nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(withoutStatistics)).Serialize()...)
	reply, err := s.links.ask(unix.RTM_GETLINK, body)
	if err == unix.ENODEV {
		return seen{}, false, nil
	}
	if err == nil && len(reply) < unix.SizeofIfInfomsg {
		err = errShortAnswer
	}
	if err != nil {
		return seen{}, false, fmt.Errorf("find interface %s: %w", name, err)
	}
	attrs, err := nl.ParseRouteAttrAsMap(reply[unix.SizeofIfInfomsg:])
	if err != nil {
		return seen{}, false, fmt.Errorf("find interface %s: %w", name, err)
	}
	l = seen{index: int(binary.NativeEndian.Uint32(reply[4:])), flags: binary.NativeEndian.Uint32(reply[8:])}
	if master := attrs[unix.IFLA_MASTER].Value; len(master) == 4 {
		l.master = int(binary.NativeEndian.Uint32(master))
	}
	return l, true, nil
}

// rulesStand reports whether the netfilter rules are as they should be. The kernel counts the changes
// of a namespace's rules: they are read back only when there was one.
func (s *sight) rulesStand(l *Line) (bool, error) {
	generation, err := s.ruleset()
	if err != nil {
		return false, err
	}
	if s.stood && s.generation == generation {
		return true, nil
	}
	// Asked for before the rules are read: what changes meanwhile has another generation.
	s.stood, err = l.RulePresent()
	s.generation = generation
	return s.stood, err
}

// ruleset is the generation of the namespace's ruleset.
func (s *sight) ruleset() (uint32, error) {
	const netfilterHeader = 4 // struct nfgenmsg: any family, version 0
	reply, err := s.rules.ask(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, make([]byte, netfilterHeader))
	if err == nil && len(reply) < netfilterHeader {
		err = errShortAnswer
	}
	var attrs map[uint16]syscall.NetlinkRouteAttr
	if err == nil {
		attrs, err = nl.ParseRouteAttrAsMap(reply[netfilterHeader:])
	}
	id := attrs[unix.NFTA_GEN_ID].Value
	if err == nil && len(id) != 4 {
		err = errShortAnswer
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the generation of the netfilter rules: %w", err)
	}
	return binary.BigEndian.Uint32(id), nil
}

// asker asks the kernel one question at a time and waits for the answer, which is one message.
type asker struct {
	fd       int
	sequence uint32
	buffer   []byte
}

// askTimeout bounds the wait for an answer, which the kernel gives before the question's call returns.
const askTimeout = 1 // s

func (a *asker) open(protocol int) (err error) {
	if a.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol); err != nil {
		return os.NewSyscallError("socket", err)
	}
	a.buffer = make([]byte, 32<<10)
	if err := unix.SetsockoptTimeval(a.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: askTimeout}); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	// Connected to the kernel it hears from nobody else.
	return os.NewSyscallError("connect", unix.Connect(a.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
}

func (a *asker) close() error {
	if a.fd < 0 {
		return nil
	}
	fd := a.fd
	a.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

// ask returns the body of the answer, valid until the next question, or the kernel's error as it is.
func (a *asker) ask(kind uint16, body []byte) ([]byte, error) {
	a.sequence++
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, unix.NLM_F_REQUEST)
	m = binary.NativeEndian.AppendUint32(m, a.sequence)
	m = append(binary.NativeEndian.AppendUint32(m, 0), body...)
	if _, err := unix.Write(a.fd, m); err != nil {
		return nil, os.NewSyscallError("write", err)
	}
	for {
		n, err := unix.Read(a.fd, a.buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("read", err)
		}
		if n < unix.SizeofNlMsghdr || binary.NativeEndian.Uint32(a.buffer[8:]) != a.sequence {
			continue // an answer that came too late for its question
		}
		length := int(min(binary.NativeEndian.Uint32(a.buffer), uint32(n)))
		answer := a.buffer[unix.SizeofNlMsghdr:max(length, unix.SizeofNlMsghdr)]
		if binary.NativeEndian.Uint16(a.buffer[4:]) != unix.NLMSG_ERROR {
			return answer, nil
		}
		if len(answer) < 4 {
			return nil, errShortAnswer
		}
		if code := -int32(binary.NativeEndian.Uint32(answer)); code != 0 {
			return nil, unix.Errno(code)
		}
	}
}
