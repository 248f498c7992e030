package main

import (
	"strings"
	"testing"
)

const netDev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       1       2    0    0    0     0          0         0        3       4    0    0    0     0       0          0
    pa: 1000       10    0    0    0     0          0         0     2000      20    0    0    0     0       0          0
   pab: 1000       70    0    0    0     0          0         0     2000      80    0    0    0     0       0          0
    pb:3000 30 0 0 0 0 0 0 4000 18446744073709551615 0 0 0 0 0 0
`

func TestCountersOfPorts(t *testing.T) {
	for _, row := range []struct {
		name, text string
		ports      []string
		want       traffic
		fails      string
	}{
		{"one port", netDev, []string{"pa"}, traffic{10, 20}, ""},
		{"two ports", strings.Replace(netDev, "18446744073709551615", "40", 1), []string{"pa", "pb"}, traffic{40, 60}, ""},
		{"a port that is gone", netDev, []string{"pa", "pc"}, traffic{}, "of pa and pc the kernel knows 1"},
		{"no number", strings.Replace(netDev, "20    0", "x    0", 1), []string{"pa"}, traffic{}, "port pa"},
		{"nothing", "", []string{"pa"}, traffic{}, "knows 0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := countersOf([]byte(row.text), row.ports)
			if row.fails != "" {
				if err == nil || !strings.Contains(err.Error(), row.fails) {
					t.Errorf("error %v, want %q", err, row.fails)
				}
				return
			}
			if err != nil || got != row.want {
				t.Errorf("got %+v, %v, want %+v", got, err, row.want)
			}
		})
	}
}
