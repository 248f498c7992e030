package main

import (
	"flag"
	"strings"
	"testing"
)

// TestHeadingNamesItsCommand: what is measured can be measured again by the line above the tables.
func TestHeadingNamesItsCommand(t *testing.T) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var only names
	flags.Var(&only, "only", "")
	flags.Int("injections", 20, "")
	flags.String("write", "", "")
	if err := flags.Parse([]string{"-only", "trips,outages", "-injections", "3", "-write", "file"}); err != nil {
		t.Fatal(err)
	}
	if got, want := heading(flags), "`sudo go run ./internal/bench -injections 3 -only trips,outages`"; !strings.Contains(got, want) {
		t.Errorf("%q, want %s in it", got, want)
	}
}
