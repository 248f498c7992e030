package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// printJSON prints one object on one line.
func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// table prints rows in aligned columns; the first row is the heading.
type table struct{ rows [][]string }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// print prints nothing where there is only a heading.
func (t *table) print(w io.Writer) error {
	if len(t.rows) < 2 {
		return nil
	}
	return t.align(w)
}

func (t *table) align(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		for i, cell := range row {
			row[i] = clean(cell)
		}
		if _, err := fmt.Fprintln(tw, strings.TrimRight(strings.Join(row, "\t"), "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// clean returns text that a terminal only shows. Names of tags, and whatever else comes off
// the wire, may hold sequences that would make it do something.
func clean(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return strconv.QuoteToGraphic(s)
	}
	return s
}

// or returns the text, or a dash where there is none.
func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// stamp writes a time for people, in UTC, because that is what events and records use.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func unsigned(n uint64) string { return strconv.FormatUint(n, 10) }

// short returns the beginning of a hash, enough to tell versions apart.
func short(hash string) string { return hash[:min(12, len(hash))] }
