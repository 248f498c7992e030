package main

import (
	"os"
	"runtime/debug"
)

// memoryLimit is how much memory the runtime holds before it collects garbage sooner than it
// otherwise would, bytes. What the daemon keeps at its limits (inspect.Limits above all) is below, so
// that collecting always gets somewhere.
const memoryLimit = 160 << 20

// limitMemory keeps the daemon small beside whatever else the box has to do, unless its environment
// says how large it may become.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
