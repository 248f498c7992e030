package main

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// setBatch is how many elements go into one netlink message, whose attributes hold 64 KiB.
const setBatch = 500

// addSet makes the bridge of a line enforce conversations as nftables does it best: one look-up
// of (source MAC, destination MAC, port) in a set, no connection tracking, the rest dropped.
func addSet(l *line, permitted []conversation) error {
	conn, err := nftables.New(nftables.WithNetNSFd(l.Box.Fd()))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	drop := nftables.ChainPolicyDrop
	table := conn.AddTable(&nftables.Table{Name: "bench", Family: nftables.TableFamilyBridge})
	chain := conn.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	triple, err := nftables.ConcatSetType(nftables.TypeEtherAddr, nftables.TypeEtherAddr, nftables.TypeInetService)
	if err != nil {
		return fmt.Errorf("make a type of set: %w", err)
	}
	set := &nftables.Set{Table: table, Name: "permitted", KeyType: triple, Concatenation: true}
	if err := conn.AddSet(set, nil); err != nil {
		return fmt.Errorf("make a set: %w", err)
	}
	for rest := permitted; len(rest) > 0; {
		n := min(len(rest), setBatch)
		elements := make([]nftables.SetElement, n)
		for i := range elements {
			elements[i].Key = setKey(&rest[i])
		}
		if err := conn.SetAddElements(set, elements); err != nil {
			return fmt.Errorf("add elements: %w", err)
		}
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("add %d elements: %w", n, err)
		}
		rest = rest[n:]
	}
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: inSet(set)})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("add the rule: %w", err)
	}
	return nil
}

// setKey is a conversation as the registers hold it, each part padded to four bytes.
func setKey(c *conversation) []byte {
	var key [20]byte
	copy(key[0:], c.client.MAC[:])
	copy(key[8:], c.device.MAC[:])
	binary.BigEndian.PutUint16(key[16:], c.port)
	return key[:]
}

// inSet accepts TCP over IPv4 whose MAC addresses and destination port are in the set.
func inSet(set *nftables.Set) []expr.Any {
	const firstRegister = 8 // NFT_REG32_00
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(unix.ETH_P_IP)},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: firstRegister, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
		&expr.Payload{DestRegister: firstRegister + 2, Base: expr.PayloadBaseLLHeader, Offset: 0, Len: 6},
		&expr.Payload{DestRegister: firstRegister + 4, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: firstRegister, SetName: set.Name, SetID: set.ID},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// noopQueue is the queue of the readers that accept everything.
const noopQueue = bridge.QueueCloses

// addQueue sends what passes the bridge of a line into noopQueue: by the kernel's own queue
// expression, or where it has none by the xtables target.
func addQueue(l *line) error {
	if err := l.Box.Do(func() error { return bridge.WriteSysctl("1", "bridge", "bridge-nf-call-iptables") }); err != nil {
		return err
	}
	native := sendQueueRule(l, &expr.Queue{Num: noopQueue, Total: 1})
	if native == nil {
		return nil
	}
	if err := sendQueueRule(l, &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &xt.Unknown{noopQueue, 0, 1, 0, 0, 0}}); err != nil {
		return fmt.Errorf("queue packets: %w (by the queue expression: %w)", err, native)
	}
	return nil
}

func sendQueueRule(l *line, queue expr.Any) error {
	conn, err := nftables.New(nftables.WithNetNSFd(l.Box.Fd()))
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: "bench", Family: nftables.TableFamilyIPv4})
	chain := conn.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{queue}})
	return conn.Flush()
}

var _ testnet.Env = (*environment)(nil)
