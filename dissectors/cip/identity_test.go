package cip_test

import (
	"bytes"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/cip"
	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
)

// identityData is attributes 1 to 7 of an Identity object.
func identityData(name string) []byte {
	return ct.Join(ct.U16(1), ct.U16(14), ct.U16(54), []byte{20, 11}, ct.U16(0x3160), ct.U32(0xc0fa09b), []byte{byte(len(name))}, []byte(name))
}

func TestIdentity(t *testing.T) {
	of := func(code byte, path []byte, reply ...[]byte) (i cip.Identity, ok bool) {
		t.Helper()
		var w cip.Walk
		request := ct.Request(code, path)
		w.Start(request, len(request), nil)
		var r cip.Reply
		whole := ct.Join([]byte{code | 0x80, 0, 0, 0}, ct.Join(reply...))
		if !w.Next() || cip.ParseReply(whole, len(whole), &r) != nil {
			t.Fatalf("%x and %x", request, whole)
		}
		return i, r.Identity(&w.Request, &i)
	}
	object := ct.Join(ct.Class(1), ct.Instance(1))
	attribute := func(n uint32) []byte { return ct.Join(object, ct.Attribute(n)) }
	i, ok := of(0x01, object, identityData("1756-L61/B"), []byte{3})
	if !ok || i.VendorName() != "Rockwell Automation" || i.TypeName() != "programmable logic controller" || i.ProductCode != 54 ||
		i.Major != 20 || i.Minor != 11 || i.Serial != 0xc0fa09b || string(i.Name) != "1756-L61/B" {
		t.Errorf("all attributes: %+v, %v", i, ok)
	}
	if i, ok = of(0x0e, attribute(7), []byte("\x04Pump")); !ok || string(i.Name) != "Pump" || i.HasVendor {
		t.Errorf("the name: %+v, %v", i, ok)
	}
	if i, ok = of(0x0e, attribute(1), ct.U16(4711)); !ok || i.VendorName() != "4711" {
		t.Errorf("the vendor: %+v, %v", i, ok)
	}
	list := ct.Join(ct.U16(3), ct.U16(6), ct.U16(0), ct.U32(7), ct.U16(7), ct.U16(0x14), ct.U16(4), ct.U16(0), []byte{2, 1})
	if i, ok = of(0x03, object, list); !ok || i.Serial != 7 || i.Major != 2 || i.Name != nil {
		t.Errorf("a list: %+v, %v", i, ok)
	}
	for name, r := range map[string]struct {
		code  byte
		path  []byte
		reply []byte
	}{
		"another class":      {0x01, ct.Join(ct.Class(2), ct.Instance(1)), identityData("x")},
		"another instance":   {0x01, ct.Join(ct.Class(1), ct.Instance(2)), identityData("x")},
		"the class itself":   {0x01, ct.Join(ct.Class(1), ct.Instance(0)), identityData("x")},
		"too short":          {0x01, object, identityData("x")[:14]},
		"a name that ends":   {0x01, object, identityData("long")[:17]},
		"a status":           {0x0e, attribute(5), ct.U16(3)},
		"another attribute":  {0x0e, attribute(9), ct.U16(3)},
		"another size":       {0x0e, attribute(1), ct.U32(1)},
		"nothing":            {0x0e, attribute(7), nil},
		"a list that ends":   {0x03, object, ct.U16(1)},
		"a list of others":   {0x03, object, ct.Join(ct.U16(1), ct.U16(99), ct.U16(0), ct.U16(1))},
		"another's services": {0x10, attribute(1), ct.U16(1)},
	} {
		if i, ok := of(r.code, r.path, r.reply); ok && (name != "a status" || i.HasVendor || i.HasSerial) {
			t.Errorf("%s: %+v", name, i)
		}
	}
	data := identityData("1756-L61/B")
	for n := range data {
		if i.Parse(data[:n]) {
			t.Errorf("%d bytes of %d are an identity", n, len(data))
		}
	}
	if !i.Parse(bytes.Clone(data)) {
		t.Error("all of them are none")
	}
}
