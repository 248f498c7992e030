package plant

import (
	"strings"
	"testing"
)

// TestAnotherReleasesClockIsAnError: where the standard library reads the clock in another way, nobody builds a daemon
// whose clock cannot be set, and the error says what has to follow.
func TestAnotherReleasesClockIsAnError(t *testing.T) {
	const release = "import (\n\t\"errors\"\n\t\"math/bits\"\n)\n\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n}\n"
	changed, err := withClockAhead([]byte(release))
	if err != nil || !strings.Contains(string(changed), "sec += ahead.Load()") || !strings.Contains(string(changed), `"sync/atomic"`) {
		t.Errorf("%q (%v)", changed, err)
	}
	for _, other := range []string{
		strings.ReplaceAll(release, "runtimeNow", "now"), strings.ReplaceAll(release, "\t\"math/bits\"\n", ""), release + release,
	} {
		if _, err := withClockAhead([]byte(other)); err == nil || !strings.Contains(err.Error(), "withClockAhead has to follow") {
			t.Errorf("%q is taken: %v", other, err)
		}
	}
}
