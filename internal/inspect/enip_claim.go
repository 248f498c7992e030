package inspect

import (
	"fmt"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/internal/identity"
)

// claim reads what a device says of itself: in a reply to ListIdentity, or to a read of its Identity object.
func (m *enipMessage) claim() (identity.Claim, bool) {
	if !m.isResponse {
		return identity.Claim{}, false
	}
	var i cip.Identity
	switch {
	case m.index == isEnvelope && m.command == enip.ListIdentity:
		return claimOf(&i, m.listed(&i))
	case m.index != isEnvelope && readsAttributes(m.code):
		return claimOf(&i, m.read(&i))
	}
	return identity.Claim{}, false
}

// readsAttributes tells which replies are worth a look at what they answer: every message is asked for a claim.
func readsAttributes(code cip.ServiceCode) bool {
	return code == cip.GetAttributesAll || code == cip.GetAttributeSingle || code == cip.GetAttributeList
}

// listed reads the first identity that a reply to ListIdentity holds: behind the protocol's version and a
// socket address of 16 bytes (V2 2-4.3.3).
func (m *enipMessage) listed(i *cip.Identity) bool {
	const version, socket = 2, 16
	item, ok := m.list(enip.ListIdentityItem)
	return ok && len(item) > version+socket && i.Parse(item[version+socket:])
}

// list returns the first item of the type that a whole reply to a discovery command holds.
func (m *enipMessage) list(t enip.ItemType) ([]byte, bool) {
	message, _, _ := m.payload()
	if !message.Complete() || message.Status != 0 {
		return nil, false
	}
	for items := message.List(); items.Next(); {
		if items.Item.Type == t {
			return items.Item.Data, true
		}
	}
	return nil, false
}

// read reads the reply to a read of the Identity object of the device itself. One that came by a route is of a
// module behind it.
func (m *enipMessage) read(i *cip.Identity) bool {
	var w cip.Walk
	if !m.request(&w) {
		return false
	}
	if hops, known := w.Route(); !known || len(hops) > 0 || len(w.Request.Path.Hops()) > 0 {
		return false
	}
	var replies cip.ReplyWalk
	_, ok := m.walkToReply(&replies)
	return ok && replies.Reply.Identity(&w.Request, i)
}

func claimOf(i *cip.Identity, ok bool) (identity.Claim, bool) {
	c := identity.Claim{Protocol: layerCIP, Product: string(i.Name)}
	if i.HasVendor {
		c.Vendor = i.VendorName()
	}
	if i.HasType {
		c.Type = i.TypeName()
	}
	if i.HasRevision {
		c.Revision = fmt.Sprintf("%d.%03d", i.Major, i.Minor)
	}
	if i.HasSerial {
		c.Serial = fmt.Sprintf("%08x", i.Serial)
	}
	return c, ok && c != identity.Claim{Protocol: layerCIP}
}
