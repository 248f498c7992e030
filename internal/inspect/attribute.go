package inspect

import "github.com/penstock-ot/penstock/dissectors/dnp3"

// Attribute is something that a device says of itself.
type Attribute struct {
	Name  string // such as "manufacturer", "product_name", "serial_number"
	Value string // as it was sent
}

// describer is a body in which a device may describe itself.
type describer interface{ attributes() []Attribute }

// Attributes returns what the responder of a message says of itself in it, nil for most. It allocates, and
// is for those who keep an inventory. What a device says is evidence, no verdict rests on it.
func (m *Message) Attributes() []Attribute {
	if body, ok := m.body.(describer); ok && m.Malformed == "" && m.Verdict.Allows() {
		return body.attributes()
	}
	return nil
}

func (m *dnp3Message) attributes() []Attribute {
	if !m.whole || !m.message.IsResponse || !m.frame.CarriesData() {
		return nil
	}
	var list []Attribute
	for headers := m.message.Headers(); headers.Next(); {
		name := dnp3.AttributeName(headers.Variation)
		if headers.Group != dnp3.GroupAttribute || name == "" {
			continue
		}
		for objects := headers.Objects(); objects.Next(); {
			if text, ok := headers.Attribute(objects.Data); ok {
				list = append(list, Attribute{Name: name, Value: text})
			}
		}
	}
	return list
}
