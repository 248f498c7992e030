package inspect

import "strconv"

// share is what one identity's connections take of the limits that all have in common. It may take
// a quarter, or one client that opens connections and never ends them would shut out the others.
type share struct {
	owner                 string
	connections, requests int
}

// shareOf returns how much of a common limit one identity may have.
func shareOf(limit int) int { return max(1, limit/4) }

// ownerOf names the identity that begins a flow's connections: by its name, which stays the same
// when another plan numbers identities differently.
func ownerOf(f Flow) string {
	if int(f.Source) < len(f.Plan.Identities) {
		return f.Plan.Identities[f.Source].Name
	}
	return strconv.FormatUint(uint64(f.Source), 10)
}

// hasRoom reports whether another connection of the flow's initiator may be followed.
func (p *Pipeline) hasRoom(f Flow) bool {
	if len(p.connections) >= p.limits.Connections {
		return false
	}
	s := p.shares[ownerOf(f)]
	return s == nil || s.connections < shareOf(p.limits.Connections)
}

// join counts a connection to the flow's initiator, leave takes it back. A connection stays with
// the share that it joined.
func (p *Pipeline) join(f Flow) *share {
	owner := ownerOf(f)
	s := p.shares[owner]
	if s == nil {
		s = &share{owner: owner}
		p.shares[owner] = s
	}
	s.connections++
	return s
}

func (p *Pipeline) leave(s *share) {
	if s.connections--; s.connections == 0 {
		delete(p.shares, s.owner)
	}
}
