package cipio

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// TestProducersHaveTheRuntimeAside holds that nothing is collected while there are producers, that each has a
// processor beside those that there were, and that afterwards all is as before.
func TestProducersHaveTheRuntimeAside(t *testing.T) {
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	percent := func() int {
		now := debug.SetGCPercent(-1)
		debug.SetGCPercent(now)
		return now
	}
	limit, processors := debug.SetMemoryLimit(-1), runtime.GOMAXPROCS(0)
	over, ended := make(chan struct{}), make(chan struct{})
	for i := range 2 {
		begun := make(chan struct{})
		go func() {
			beginRealTime()
			close(begun)
			<-over
			endRealTime()
			ended <- struct{}{}
		}()
		<-begun
		if p, n := percent(), runtime.GOMAXPROCS(0); p != -1 || n != processors+i+1 {
			t.Errorf("with %d producers it collects at %d %% and has %d processors, had %d", i+1, p, n, processors)
		}
	}
	over <- struct{}{}
	<-ended
	if p := percent(); p != -1 {
		t.Errorf("with the last producer it collects at %d %%", p)
	}
	over <- struct{}{}
	<-ended
	if p, n := percent(), runtime.GOMAXPROCS(0); p != 77 || n != processors {
		t.Errorf("afterwards it collects at %d %% and has %d processors, had %d", p, n, processors)
	}
	if now := debug.SetMemoryLimit(-1); now != limit {
		t.Errorf("the limit is %d, and was %d", now, limit)
	}
}
