package datapath

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"
)

// each calls f with every key and value of the table.
func (t *table) each(f func(key, value any) error) error {
	keys, values := reflect.ValueOf(t.keys), reflect.ValueOf(t.values)
	for i := range t.length {
		if err := f(keys.Index(i).Interface(), values.Index(i).Interface()); err != nil {
			return err
		}
	}
	return nil
}

// readBack compares what the kernel holds with what was meant, entry by entry. Two entries of
// the plan with one key would show here, as would a value that was cut off.
func readBack(m *ebpf.Map, t *table) error {
	keys, values := reflect.ValueOf(t.keys), reflect.ValueOf(t.values)
	for i := range t.length {
		want := values.Index(i)
		got := reflect.New(want.Type())
		err := m.Lookup(keys.Index(i).Interface(), got.Interface())
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read it back: entry %v is not there", keys.Index(i))
		}
		if err != nil {
			return fmt.Errorf("read it back: %w", err)
		}
		if !got.Elem().Equal(want) {
			return fmt.Errorf("read it back: entry %v holds %v instead of %v", keys.Index(i), got.Elem(), want)
		}
	}
	return readBackCount(m, t)
}

// readBackCount makes sure that nothing but the plan's entries is in a hash or trie.
func readBackCount(m *ebpf.Map, t *table) error {
	if m.Type() == ebpf.Array {
		return nil
	}
	count := 0
	var key any // nil asks for the first
	for {
		next, err := m.NextKeyBytes(key)
		if err != nil {
			return fmt.Errorf("read it back: %w", err)
		}
		if next == nil {
			break
		}
		key = next
		count++
	}
	if count != t.length {
		return fmt.Errorf("read it back: %d entries instead of %d", count, t.length)
	}
	return nil
}
