package bridge

import "github.com/penstock-ot/penstock/internal/policy"

// Socket shows a side's socket to the tests.
func (i *Injector) Socket(side policy.Side) int {
	if side == policy.SideB {
		return i.sockets[1]
	}
	return i.sockets[0]
}
