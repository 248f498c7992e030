package datapath

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// passes are the frames that went the short way, as each CPU counted them to each conduit, mapped into this
// process. Safe for concurrent use; after close there are none.
type passes struct {
	mu     sync.RWMutex // held for reading by who uses the memory
	memory []byte
	words  []uint64
}

// generationWords is how many words a CPU has for both generations.
const generationWords = 2 * maxConduits

func mapPasses(m *ebpf.Map) (*passes, error) {
	words := int(m.MaxEntries())
	memory, err := unix.Mmap(m.FD(), 0, wholePages(words*int(m.ValueSize())), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the conduits' passes: %w", err)
	}
	return &passes{memory: memory, words: unsafe.Slice((*uint64)(unsafe.Pointer(&memory[0])), words)}, nil
}

func (p *passes) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	memory := p.memory
	p.memory, p.words = nil, nil
	if memory == nil {
		return nil
	}
	return unix.Munmap(memory)
}

// of is the sum over the CPUs for a conduit of the generation that a half is of.
func (p *passes) of(index, conduit uint32) (sum uint64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for at := int(index*maxConduits + conduit); at < len(p.words); at += generationWords {
		sum += atomic.LoadUint64(&p.words[at])
	}
	return sum
}

// clear begins a half at zero. No program counts in it: it is not in force.
func (p *passes) clear(index uint32) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for at := int(index * maxConduits); at < len(p.words); at += generationWords {
		for i := range p.words[at : at+maxConduits] {
			atomic.StoreUint64(&p.words[at+i], 0)
		}
	}
}
