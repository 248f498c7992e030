package dnp3

import (
	"slices"
	"testing"
)

// TestEvasionsWork shows that each evasion that says so makes an outstation that nobody protects do
// what the rules deny: a test on the line that finds nothing executed has then shown something.
func TestEvasionsWork(t *testing.T) {
	names := make(map[string]bool)
	for _, e := range Evasions() {
		t.Run(e.Name, func(t *testing.T) {
			if names[e.Name] {
				t.Error("the name is taken")
			}
			names[e.Name] = true
			o := NewOutstation(Config{Personality: Loose(), Files: map[string][]byte{"x": []byte("x")}})
			defer o.Close()
			m := join(t, o, MasterConfig{Address: 1})
			for _, part := range e.Parts {
				if _, err := m.Conn().Write(part); err != nil {
					t.Fatal(err)
				}
			}
			must(t, m.KeepAlive())
			executed := o.Executed()
			if works := slices.ContainsFunc(executed, Beyond); works != e.Works {
				t.Errorf("executed %v, want something beyond the rules: %v", executed, e.Works)
			}
			if e.Permitted && len(executed) > 0 {
				t.Errorf("executed %v", executed)
			}
		})
	}
}
