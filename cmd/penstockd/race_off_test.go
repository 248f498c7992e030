//go:build !race

package main

// buildFlags has the daemon under test built as the tests are: without the race detector.
func buildFlags() []string { return nil }
