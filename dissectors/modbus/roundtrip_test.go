package modbus_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/modbus"
)

// encodeRequest writes a request from its parsed fields alone, without Body where the function is
// parsed, so that a field which was read wrong or not at all shows.
func encodeRequest(r *modbus.Request) []byte {
	return frame(r.Transaction, r.Unit, byte(r.Function), requestBody(r))
}

func frame(transaction uint16, unit, function byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, transaction)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(2+len(body)))
	return append(append(b, unit, function), body...)
}

func words(values ...uint16) (b []byte) {
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func counted(b []byte) []byte { return append([]byte{byte(len(b))}, b...) }

func requestBody(r *modbus.Request) []byte {
	switch r.Function {
	case modbus.ReadCoils, modbus.ReadDiscreteInputs, modbus.ReadHoldingRegisters, modbus.ReadInputRegisters:
		return words(r.Address, r.Quantity)
	case modbus.WriteSingleCoil, modbus.WriteSingleRegister:
		return append(words(r.Address), r.Values...)
	case modbus.ReadExceptionStatus, modbus.GetCommEventCounter, modbus.GetCommEventLog, modbus.ReportServerID:
		return nil
	case modbus.Diagnostics:
		return append(words(r.SubFunction), r.Values...)
	case modbus.WriteMultipleCoils, modbus.WriteMultipleRegisters:
		return append(words(r.Address, r.Quantity), counted(r.Values)...)
	case modbus.ReadFileRecord, modbus.WriteFileRecord:
		return counted(records(r.Records()))
	case modbus.MaskWriteRegister:
		return words(r.Address, r.AndMask, r.OrMask)
	case modbus.ReadWriteMultipleRegisters:
		return append(words(r.Address, r.Quantity, r.WriteAddress, r.WriteQuantity), counted(r.Values)...)
	case modbus.ReadFIFOQueue:
		return words(r.Address)
	case modbus.EncapsulatedInterfaceTransport:
		if r.MEIType == modbus.MEIReadDeviceIdentification {
			return []byte{r.MEIType, r.ReadDeviceID, r.ObjectID}
		}
	}
	return r.Body
}

func records(c modbus.Records) (b []byte) {
	for c.Next() {
		b = append(b, 6)
		b = append(b, words(c.File, c.Number, c.Length)...)
		b = append(b, c.Data...)
	}
	return b
}

// encodeResponse does for responses what encodeRequest does for requests.
func encodeResponse(r *modbus.Response) []byte {
	if r.Exception != 0 {
		return frame(r.Transaction, r.Unit, 0x80|byte(r.Function), []byte{byte(r.Exception)})
	}
	return frame(r.Transaction, r.Unit, byte(r.Function), responseBody(r))
}

func responseBody(r *modbus.Response) []byte {
	switch r.Function {
	case modbus.ReadCoils, modbus.ReadDiscreteInputs, modbus.ReadHoldingRegisters,
		modbus.ReadInputRegisters, modbus.ReadWriteMultipleRegisters:
		return counted(r.Values)
	case modbus.WriteSingleCoil, modbus.WriteSingleRegister:
		return append(words(r.Address), r.Values...)
	case modbus.Diagnostics:
		return append(words(r.SubFunction), r.Values...)
	case modbus.WriteMultipleCoils, modbus.WriteMultipleRegisters:
		return words(r.Address, r.Quantity)
	case modbus.WriteFileRecord:
		return counted(records(r.Records()))
	case modbus.ReadFileRecord:
		return counted(replies(r.Records()))
	case modbus.MaskWriteRegister:
		return words(r.Address, r.AndMask, r.OrMask)
	case modbus.ReadFIFOQueue:
		return append(words(uint16(2+len(r.Values)), uint16(len(r.Values)/2)), r.Values...)
	case modbus.EncapsulatedInterfaceTransport:
		if r.MEIType == modbus.MEIReadDeviceIdentification {
			return identification(r)
		}
	}
	return r.Body
}

func replies(c modbus.Records) (b []byte) {
	for c.Next() {
		b = append(b, byte(1+2*c.Length), 6)
		b = append(b, c.Data...)
	}
	return b
}

// identification takes conformity, more follows and next object from the body: they are not
// parsed further.
func identification(r *modbus.Response) []byte {
	var list []byte
	count := byte(0)
	for c := r.Objects(); c.Next(); count++ {
		list = append(append(list, c.ID), counted(c.Value)...)
	}
	b := append([]byte{r.MEIType, r.ReadDeviceID}, r.Body[2:5]...)
	return append(append(b, count), list...)
}

func TestRoundTripRequests(t *testing.T) {
	for _, g := range goldenRequests {
		b := message(t, g.wire)
		var r modbus.Request
		if _, err := modbus.ParseRequest(b, &r); err != nil {
			t.Fatalf("%s: %v", g.name, err)
		}
		if got := encodeRequest(&r); !bytes.Equal(got, b) {
			t.Errorf("%s: encoded\n%x, want\n%x", g.name, got, b)
		}
	}
}

func TestRoundTripResponses(t *testing.T) {
	for _, g := range goldenResponses {
		b := message(t, g.wire)
		var r modbus.Response
		if _, err := modbus.ParseResponse(b, &r); err != nil {
			t.Fatalf("%s: %v", g.name, err)
		}
		if got := encodeResponse(&r); !bytes.Equal(got, b) {
			t.Errorf("%s: encoded\n%x, want\n%x", g.name, got, b)
		}
	}
}
