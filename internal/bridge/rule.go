package bridge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/datapath/mark"
)

// Netfilter queues of the first lane, one for each choice of what happens in an outage: the kernel's
// fail-open flag belongs to the queue, not to the packet.
const (
	QueueCloses = 100
	QueueOpens  = 101
)

// QueueNumber is the number by which the kernel knows a queue: 100 and 101 for the first lane, 102
// and 103 for the second.
func QueueNumber(q mark.Queue) uint16 { return QueueCloses + uint16(q) }

// RuleTable is the name of the tables, one for IPv4 and one for IPv6, that hold the rules.
const RuleTable = "penstock"

const ruleChain = "forward"

// The rules are in the ip and ip6 families: br_netfilter carries bridged frames through their
// forward hooks, and that is the one way to a queue that every kernel has. The bridge family has
// its own hook, and refuses the xtables target where nftables lacks a queue expression.
func ruleFamilies() []nftables.TableFamily {
	return []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}
}

// queueRule sends the packets whose mark says so to a queue. A queue without a reader drops: the
// bypass flag stays off, for the heartbeat decides about outages and not the queue's absence.
type queueRule struct {
	mask, value uint32
	queue       uint16
}

// queueRules are one rule for each queue. The bits of the flow's slot that tell its lane are enough
// to lead both directions of a flow to one queue, which a balance of netfilter's own would not.
func queueRules(lanes int) []queueRule {
	rules := make([]queueRule, 2*lanes)
	for i := range rules {
		q := mark.Queue(i)
		mask, value := q.Match(lanes)
		rules[i] = queueRule{mask, value, QueueNumber(q)}
	}
	return rules
}

// ruleset is what belongs into each chain: the rules of the queues, and a last one that drops what the
// bridge would forward without one of their marks. Exit gate and marker stop that too; this holds with
// both gone. On the bare bridge, where no frame has a mark, there is no such rule.
type ruleset struct {
	lanes  int
	bridge string // whose frames need a mark, "" for nobody's
}

func (l *Line) ruleset() ruleset {
	r := ruleset{lanes: l.layout.lanes(), bridge: l.layout.Bridge}
	if l.bare {
		r.bridge = ""
	}
	return r
}

// AddRule makes netfilter queue what waits for a verdict, and drop what nobody marked (see Unruled for
// a line to which that does not apply). Rules that are there already are replaced in one transaction,
// or left alone when they are the same.
func (l *Line) AddRule() (Undo, error) {
	var present bool
	err := l.Do(func() (err error) {
		if present, err = l.ruleset().present(); err != nil || present {
			return err
		}
		return l.ruleset().replace()
	})
	if err != nil {
		return nil, err
	}
	if present {
		return func() error { return nil }, nil
	}
	return l.RemoveRule, nil
}

// RulePresent reports whether the rules are in force, exactly as AddRule makes them.
func (l *Line) RulePresent() (present bool, err error) {
	err = l.Do(func() error {
		present, err = l.ruleset().present()
		return err
	})
	return present, err
}

// RemoveRule removes the rules, which need not be there.
func (l *Line) RemoveRule() error { return l.Do(removeRules) }

// replace puts the rules in force. nftables' own queue expression is tried first; a kernel
// without it (CONFIG_NFT_QUEUE) takes the xtables target by the same name.
func (s ruleset) replace() error {
	native := s.send(nativeQueue)
	if native == nil {
		return nil
	}
	if err := s.send(compatQueue); err != nil {
		return fmt.Errorf("add netfilter rules: %w", errors.Join(
			fmt.Errorf("by the queue expression (CONFIG_NFT_QUEUE): %w", native),
			fmt.Errorf("by the NFQUEUE target (CONFIG_NFT_COMPAT, CONFIG_NETFILTER_XT_TARGET_NFQUEUE): %w", err)))
	}
	return nil
}

// send replaces tables, chains and rules of both families in one batch: the kernel takes all
// of it or nothing, and no packet meets a part.
func (s ruleset) send(queue func(number uint16) expr.Any) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	for _, family := range ruleFamilies() {
		table := &nftables.Table{Name: RuleTable, Family: family}
		conn.AddTable(table) // so that there is one to delete
		conn.DelTable(table)
		conn.AddTable(table)
		policy := nftables.ChainPolicyAccept
		chain := conn.AddChain(&nftables.Chain{
			Name:     ruleChain,
			Table:    table,
			Type:     nftables.ChainTypeFilter,
			Hooknum:  nftables.ChainHookForward,
			Priority: nftables.ChainPriorityFilter,
			Policy:   &policy,
		})
		for _, r := range queueRules(s.lanes) {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r.expressions(queue)})
		}
		if s.bridge != "" {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: dropUnmarked(s.bridge)})
		}
	}
	return conn.Flush()
}

func (r queueRule) expressions(queue func(number uint16) expr.Any) []expr.Any {
	const register = 1
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register},
		&expr.Bitwise{
			SourceRegister: register, DestRegister: register, Len: 4,
			Mask: hostOrder(r.mask), Xor: hostOrder(0),
		},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: hostOrder(r.value)},
		queue(r.queue),
	}
}

// dropUnmarked drops what leaves by the bridge: br_netfilter shows bridged frames with it, rather than
// with the port, as the interface that they leave by. What else the namespace forwards is no matter of
// ours, where that is the host's.
func dropUnmarked(bridge string) []expr.Any {
	const register = 1
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: paddedName(bridge)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// paddedName is an interface's name as nftables compares it.
func paddedName(name string) []byte {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return padded
}

func hostOrder(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func nativeQueue(number uint16) expr.Any { return &expr.Queue{Num: number, Total: 1} }

const (
	compatTarget   = "NFQUEUE"
	compatRevision = 3
)

// compatQueue is the xtables target. Its data is struct xt_NFQ_info_v3 of
// linux/netfilter/xt_NFQUEUE.h: number, count and flags, 16 bits each in host order, padded to
// the 8 bytes that xtables aligns to.
func compatQueue(number uint16) expr.Any {
	info := make([]byte, 8)
	binary.NativeEndian.PutUint16(info[0:], number)
	binary.NativeEndian.PutUint16(info[2:], 1)
	data := xt.Unknown(info)
	return &expr.Target{Name: compatTarget, Rev: compatRevision, Info: &data}
}

// present reads the rules of the calling thread's namespace back.
func (s ruleset) present() (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, err
	}
	for _, family := range ruleFamilies() {
		present, err := s.presentIn(conn, family)
		if err != nil || !present {
			return false, err
		}
	}
	return true, nil
}

func (s ruleset) presentIn(conn *nftables.Conn, family nftables.TableFamily) (bool, error) {
	chains, err := conn.ListChainsOfTableFamily(family)
	if err != nil {
		return false, fmt.Errorf("list netfilter chains: %w", err)
	}
	var chain *nftables.Chain
	for _, c := range chains {
		if c.Table.Name == RuleTable {
			if chain != nil || !isRuleChain(c) {
				return false, nil
			}
			chain = c
		}
	}
	if chain == nil {
		return false, nil
	}
	rules, err := conn.GetRules(chain.Table, chain)
	if err != nil {
		return false, fmt.Errorf("list netfilter rules: %w", err)
	}
	return s.matches(rules), nil
}

func (s ruleset) matches(rules []*nftables.Rule) bool {
	want := queueRules(s.lanes)
	if s.bridge != "" {
		if len(rules) == 0 || !dropsUnmarked(rules[len(rules)-1].Exprs, s.bridge) {
			return false
		}
		rules = rules[:len(rules)-1]
	}
	if len(rules) != len(want) {
		return false
	}
	for i, r := range rules {
		if !want[i].matches(r.Exprs) {
			return false
		}
	}
	return true
}

// dropsUnmarked reports whether the expressions are those of dropUnmarked.
func dropsUnmarked(got []expr.Any, bridge string) bool {
	if len(got) != 4 {
		return false
	}
	meta, ok := got[0].(*expr.Meta)
	if !ok || meta.Key != expr.MetaKeyOIFNAME || meta.SourceRegister {
		return false
	}
	cmp, ok := got[1].(*expr.Cmp)
	if !ok || cmp.Op != expr.CmpOpEq || cmp.Register != meta.Register || !bytes.Equal(cmp.Data, paddedName(bridge)) {
		return false
	}
	if _, ok := got[2].(*expr.Counter); !ok {
		return false
	}
	verdict, ok := got[3].(*expr.Verdict)
	return ok && verdict.Kind == expr.VerdictDrop
}

// Unmarked is how many packets the last rule has dropped, since the rules were put there. It may be called
// beside the line's other methods.
func (l *Line) Unmarked() (packets uint64, err error) {
	err = l.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		for _, family := range ruleFamilies() {
			n, err := countedIn(conn, family)
			if err != nil {
				return err
			}
			packets += n
		}
		return nil
	})
	return packets, err
}

// countedIn sums up the counters in our table; none where there is no such table.
func countedIn(conn *nftables.Conn, family nftables.TableFamily) (packets uint64, err error) {
	table := &nftables.Table{Name: RuleTable, Family: family}
	rules, err := conn.GetRules(table, &nftables.Chain{Name: ruleChain, Table: table})
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the netfilter rules' counters: %w", err)
	}
	for _, r := range rules {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				packets += c.Packets
			}
		}
	}
	return packets, nil
}

func isRuleChain(c *nftables.Chain) bool {
	return c.Name == ruleChain && c.Type == nftables.ChainTypeFilter &&
		c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward &&
		c.Priority != nil && *c.Priority == *nftables.ChainPriorityFilter &&
		c.Policy != nil && *c.Policy == nftables.ChainPolicyAccept
}

// matches reports whether the expressions are the rule's, in either of its two forms.
func (r queueRule) matches(got []expr.Any) bool {
	if len(got) != 4 {
		return false
	}
	meta, ok := got[0].(*expr.Meta)
	if !ok || meta.Key != expr.MetaKeyMARK || meta.SourceRegister {
		return false
	}
	bits, ok := got[1].(*expr.Bitwise)
	if !ok || bits.SourceRegister != meta.Register || !bytes.Equal(bits.Mask, hostOrder(r.mask)) || !bytes.Equal(bits.Xor, hostOrder(0)) {
		return false
	}
	cmp, ok := got[2].(*expr.Cmp)
	if !ok || cmp.Op != expr.CmpOpEq || cmp.Register != bits.DestRegister || !bytes.Equal(cmp.Data, hostOrder(r.value)) {
		return false
	}
	switch queue := got[3].(type) {
	case *expr.Queue:
		return *queue == expr.Queue{Num: r.queue, Total: 1}
	case *expr.Target:
		want := compatQueue(r.queue).(*expr.Target)
		info, ok := queue.Info.(*xt.Unknown)
		return ok && queue.Name == want.Name && queue.Rev == want.Rev && bytes.Equal(*info, *want.Info.(*xt.Unknown))
	}
	return false
}

func removeRules() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	for _, family := range ruleFamilies() {
		table := &nftables.Table{Name: RuleTable, Family: family}
		conn.AddTable(table) // so that there is one to delete
		conn.DelTable(table)
	}
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove netfilter rules: %w", err)
	}
	return nil
}
