package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	nfnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sight is what Look keeps from one look to the next: sockets, which belong for good to the namespace
// that they were opened in. Without them each look would make and end a thread there, beside verdict
// loops that wait for packets, and read all rules back. It belongs to one goroutine at a time.
type sight struct {
	links *netlink.Handle
	rules *nfnetlink.Conn
	// generation is that of the ruleset in which the rules stood, and stood says that there was one.
	generation uint32
	stood      bool
}

// lookTimeout bounds the wait for an answer, which the kernel gives before the question's call returns.
const lookTimeout = time.Second

// openSight is called in the line's namespace.
func openSight() (*sight, error) {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("look at the line: %w", err)
	}
	rules, err := nfnetlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		links.Close()
		return nil, fmt.Errorf("look at the line: %w", err)
	}
	s := &sight{links: links, rules: rules}
	if err := links.SetSocketTimeout(lookTimeout); err != nil {
		return nil, errors.Join(fmt.Errorf("look at the line: %w", err), s.close())
	}
	return s, nil
}

func (s *sight) close() error {
	s.links.Close()
	return s.rules.Close()
}

// link looks at an interface by its name; nil if there is none.
func (s *sight) link(name string) (*netlink.LinkAttrs, error) {
	link, err := findLinkBy(s.links.LinkByName, name)
	if link == nil {
		return nil, err
	}
	return link.Attrs(), nil
}

// rulesStand reports whether the netfilter rules are as they should be. The kernel counts the changes
// of a namespace's rules: they are read back only when there was one.
func (s *sight) rulesStand(l *Line) (bool, error) {
	generation, err := s.ruleset()
	if err != nil {
		return false, fmt.Errorf("ask for the generation of the netfilter rules: %w", err)
	}
	if s.stood && s.generation == generation {
		return true, nil
	}
	// Asked for before the rules are read: what changes meanwhile has another generation.
	s.stood, err = l.RulePresent()
	s.generation = generation
	return s.stood, err
}

var errNoGeneration = errors.New("the kernel's answer does not hold it")

// ruleset is the generation of the namespace's ruleset.
func (s *sight) ruleset() (uint32, error) {
	const header = 4 // struct nfgenmsg: any family, version 0
	if err := s.rules.SetDeadline(time.Now().Add(lookTimeout)); err != nil {
		return 0, err
	}
	answers, err := s.rules.Execute(nfnetlink.Message{
		Header: nfnetlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: nfnetlink.Request},
		Data:   make([]byte, header),
	})
	if err != nil {
		return 0, err
	}
	if len(answers) != 1 || len(answers[0].Data) < header {
		return 0, errNoGeneration
	}
	attributes, err := nfnetlink.NewAttributeDecoder(answers[0].Data[header:])
	if err != nil {
		return 0, err
	}
	attributes.ByteOrder = binary.BigEndian
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_GEN_ID {
			return attributes.Uint32(), attributes.Err()
		}
	}
	return 0, errors.Join(errNoGeneration, attributes.Err())
}
