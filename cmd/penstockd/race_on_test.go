//go:build race

package main

// buildFlags has the daemon under test built as the tests are: with the race detector.
func buildFlags() []string { return []string{"-race"} }
