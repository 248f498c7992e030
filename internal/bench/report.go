package main

import (
	"fmt"
	"strconv"
	"strings"
)

// report is what was measured, as Markdown.
type report struct {
	sections []*section
	bars     []bar
	remarks  []string
}

// section is one table.
type section struct {
	title  string
	note   string
	header []string
	rows   [][]string
}

// bar is a ratio that has to be reached, or that is only told.
type bar struct {
	what  string
	value float64
	limit *limit
}

// limit is the least or the most that a bar allows.
type limit struct {
	value float64
	most  bool
}

func atLeast(v float64) *limit { return &limit{value: v} }
func atMost(v float64) *limit  { return &limit{value: v, most: true} }

func (l *limit) met(v float64) bool {
	if l.most {
		return v <= l.value
	}
	return v >= l.value
}

func (l *limit) String() string {
	if l.most {
		return "at most " + number(l.value)
	}
	return "at least " + number(l.value)
}

func (r *report) section(title, note string, header ...string) *section {
	s := &section{title: title, note: note, header: header}
	r.sections = append(r.sections, s)
	return s
}

func (s *section) row(cells ...string) { s.rows = append(s.rows, cells) }

// bar adds a ratio; the limit is nil where there is none.
func (r *report) bar(what string, value float64, l *limit) {
	r.bars = append(r.bars, bar{what, value, l})
}

// remark adds a sentence about what could not be measured.
func (r *report) remark(format string, args ...any) {
	r.remarks = append(r.remarks, fmt.Sprintf(format, args...))
}

// String renders the report, ratios first.
func (r *report) String() string {
	var b strings.Builder
	if len(r.bars) > 0 {
		s := section{title: "Ratios", header: []string{"measure", "result", "wanted", "reached"}}
		for _, x := range r.bars {
			wanted, reached := "", ""
			if x.limit != nil {
				wanted, reached = x.limit.String(), "yes"
				if !x.limit.met(x.value) {
					reached = "**no**"
				}
			}
			s.row(x.what, number(x.value), wanted, reached)
		}
		s.write(&b)
	}
	for _, text := range r.remarks {
		fmt.Fprintf(&b, "%s\n\n", text)
	}
	for _, s := range r.sections {
		s.write(&b)
	}
	return b.String()
}

func (s *section) write(b *strings.Builder) {
	fmt.Fprintf(b, "### %s\n\n", s.title)
	if s.note != "" {
		fmt.Fprintf(b, "%s\n\n", s.note)
	}
	if len(s.rows) == 0 {
		return
	}
	line := func(cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }
	line(s.header)
	rule := make([]string, len(s.header))
	for i := range rule {
		rule[i] = "---:"
	}
	rule[0] = "---"
	line(rule)
	for _, row := range s.rows {
		line(row)
	}
	b.WriteByte('\n')
}

// forwarding adds a table of frames a second, each beside a base.
func (r *report) forwarding(title, note string, all []*contender, base *contender) {
	s := r.section(title, note, "through", "frames/s", "ns a frame", "of "+base.label, "lost")
	for _, c := range all {
		rate := median(c.rates)
		s.row(c.label, thousands(rate), fmt.Sprintf("%.0f", 1e9/rate), number(ratio(c, base)), percent(c.lost()))
	}
}

// trips adds a table of round trips.
func (r *report) trips(title string, all []*traveller, base *traveller) {
	s := r.section(title, fmt.Sprintf("A Modbus read of one register over TCP and its reply, %d turns of %d, medians of the turns.",
		len(base.turns), base.turns[0].count), "through", "p50 µs", "p99 µs", "transactions/s", "p50 of "+base.label)
	for _, t := range all {
		p50us, p99us, perSecond := t.overall()
		s.row(t.label, fmt.Sprintf("%.1f", p50us), fmt.Sprintf("%.1f", p99us), thousands(perSecond), number(compare(t, base, p50)))
	}
}

// flood adds a table of conversations under a flood.
func (r *report) flood(all []*flooded) {
	s := r.section(fmt.Sprintf("Under a flood of %s denied frames/s", thousands(floodRate)),
		"Spoofed MAC addresses, connections that no conduit permits and tiny fragments, at the port that the client is behind. "+
			fmt.Sprintf("A Modbus read and its reply, %d turns of %d with %v between them, medians of the turns.",
				len(all[0].turns), all[0].turns[0].count, floodPause),
		"through", "p50 µs", "p99 µs", "segments sent again", "flood, frames/s")
	for _, f := range all {
		p50us, p99us, _ := f.overall()
		s.row(f.label, fmt.Sprintf("%.1f", p50us), fmt.Sprintf("%.1f", p99us), thousands(float64(f.resent())),
			thousands(float64(f.sent)/f.lasted.Seconds()))
	}
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }

func percent(v float64) string {
	if v < 0.000005 {
		return "0 %"
	}
	return fmt.Sprintf("%.3f %%", 100*v)
}

// thousands writes a whole number with commas.
func thousands(v float64) string {
	digits := strconv.FormatInt(int64(v+0.5), 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
