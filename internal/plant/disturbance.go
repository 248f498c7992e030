package plant

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:embed testdata/disturbed.go.txt
var disturbedSource []byte

// BuildDisturbed builds a penstockd whose clock of the wall can be set, and whose heap can be littered, while it
// runs: see Disturb. Its time package adds to the machine's clock what it is told to, so that nobody else's is
// moved; the clock that only goes forward is the machine's. Flags are go build's.
func BuildDisturbed(dir string, flags ...string) (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("find the standard library: %w", err)
	}
	file := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("find the standard library: %w", err)
	}
	clock, err := withClockAhead(source)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return BuildChanged(filepath.Join(dir, "disturbed"), map[string][]byte{
		file: clock, "cmd/penstockd/disturbed.go": disturbedSource,
	}, flags...)
}

// withClockAhead has time.Now add the seconds that time.ClockAhead leads to.
func withClockAhead(source []byte) ([]byte, error) {
	text, err := replaceOnce(string(source), map[string]string{
		"\t\"math/bits\"\n": "\t\"math/bits\"\n\t\"sync/atomic\"\n",
		"\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n": "\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n" +
			"\tif ahead := ClockAhead.Load(); ahead != nil {\n\t\tsec += ahead.Load()\n\t}\n",
	})
	if err != nil {
		return nil, fmt.Errorf("%w: this release of Go reads the clock in another way, which withClockAhead has to follow", err)
	}
	return []byte(text + "\n// ClockAhead is how far ahead Now is, s.\nvar ClockAhead atomic.Pointer[atomic.Int64]\n"), nil
}

// Disturbance is what disturbs a daemon of BuildDisturbed: the words of a file that both have mapped, laid out as
// testdata/disturbed.go.txt has them. Methods are safe for concurrent use.
type Disturbance struct {
	words *struct{ clockAhead, litter, standstill, collected atomic.Int64 }
}

// Disturb makes the file that daemons of BuildDisturbed obey, which do not start without; it goes with the plant.
// The clock stays as it was set last through restarts of the daemon, as a machine's does.
func (p *Plant) Disturb() (*Disturbance, error) {
	d := &Disturbance{}
	size := unsafe.Sizeof(*d.words)
	file := filepath.Join(p.Directory, "disturbance")
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", file, err)
	}
	p.env.Cleanup(func() { _ = unix.Munmap(b) })
	d.words = (*struct{ clockAhead, litter, standstill, collected atomic.Int64 })(unsafe.Pointer(&b[0]))
	return d, nil
}

// SetClock sets the daemon's clock of the wall so far ahead of the machine's, in whole seconds; behind where it
// is negative.
func (d *Disturbance) SetClock(ahead time.Duration) {
	d.words.clockAhead.Store(int64(ahead / time.Second))
}

// Litter has the runtime collect garbage without a pause in a heap of a million objects, until it is told to stop.
func (d *Disturbance) Litter(on bool) { d.words.litter.Store(word(on)) }

// StandStill has a collection stop everything for 300 ms once a second, as no collection of this runtime does.
func (d *Disturbance) StandStill(on bool) { d.words.standstill.Store(word(on)) }

// Collections is how often Litter and StandStill have had the garbage collected.
func (d *Disturbance) Collections() int { return int(d.words.collected.Load()) }

func word(on bool) int64 {
	if on {
		return 1
	}
	return 0
}
