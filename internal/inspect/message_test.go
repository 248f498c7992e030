package inspect

import (
	"encoding/json"
	"testing"

	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

func TestMessagesSayWhatTheyAreAbout(t *testing.T) {
	rows := []struct {
		adu               []byte
		operation, detail string
		fields            string
	}{
		{mbap(1, 1, 3, 0, 40, 0, 2), "read_holding_registers", "unit 1 address 40-41",
			`{"transaction":1,"unit":1,"function":3,"address":40,"quantity":2}`},
		{mbap(1, 7, 6, 0, 40, 0, 9), "write_single_register", "unit 7 address 40",
			`{"transaction":1,"unit":7,"function":6,"address":40,"values":[9]}`},
		{mbap(1, 1, 23, 0, 1, 0, 2, 0, 9, 0, 1, 2, 0, 42), "read_write_multiple_registers", "unit 1 read address 1-2 write address 9",
			`{"transaction":1,"unit":1,"function":23,"address":1,"quantity":2,"values":[42],"write_address":9,"write_quantity":1}`},
		{mbap(1, 1, 8, 0, 4, 0, 0), "diagnostics", "unit 1 force_listen_only_mode",
			`{"transaction":1,"unit":1,"function":8,"values":[0],"sub_function":4}`},
		{mbap(1, 1, 43, 13, 0, 0), "canopen_general_reference", "unit 1 MEI type 13",
			`{"transaction":1,"unit":1,"function":43,"mei_type":13,"data":"0000"}`},
		{mbap(1, 1, 20, 7, 6, 0, 4, 0, 1, 0, 2), "read_file_record", "unit 1 file 4 record 1 length 2",
			`{"transaction":1,"unit":1,"function":20,"records":[{"file":4,"record":1,"length":2}]}`},
		{mbap(1, 1, 90, 0, 2), "unknown(0x5a)", "unit 1", `{"transaction":1,"unit":1,"function":90,"data":"0002"}`},
		{mbap(1, 1, 3, 0, 40, 0, 0), "", "quantity is outside the range of this function", "null"},
	}
	for _, row := range rows {
		w := connected(t, permitAll(t))
		j := w.client(row.adu)
		if len(j.Messages) != 1 {
			t.Fatalf("% x: %d messages", row.adu, len(j.Messages))
		}
		m := &j.Messages[0]
		fields, err := json.Marshal(m.Fields())
		if err != nil || m.Operation() != row.operation || m.Detail() != row.detail || string(fields) != row.fields {
			t.Errorf("% x: %q %q %s (%v)", row.adu, m.Operation(), m.Detail(), fields, err)
		}
	}
	var none Message
	if none.Operation() != "" || none.Detail() != "" || none.Fields() != nil {
		t.Error("the zero message says something")
	}
}

func TestRepliesSayWhatTheyAnswer(t *testing.T) {
	w := connected(t, permitAll(t))
	w.client(mbap(1, 1, 43, 14, 1, 0))
	m := w.device(mbap(1, 1, 0xab, 1)).Messages[0]
	if m.Operation() != "read_device_identification" || m.Detail() != "unit 1 MEI type 14" || m.Direction != stream.FromResponder {
		t.Errorf("%q %q", m.Operation(), m.Detail())
	}
	m = w.device(readReply(9)).Messages[0]
	if m.Operation() != "read_holding_registers" || m.Detail() != "unit 1" || m.Verdict.Reason != verdict.ReasonUnsolicitedReply {
		t.Errorf("%q %q %v", m.Operation(), m.Detail(), m.Verdict.Reason)
	}
}

func TestObserverSaysWhatItCouldNotRead(t *testing.T) {
	w := newWire(t, permitAll(t))
	w.observed = true
	w.listen()
	w.client([]byte("the middle of something"))
	w.mustDeny("no boundary", verdict.ReasonResynchronising)
	if w.last.Detail == "" || w.last.Ended {
		t.Errorf("detail %q, ended %v", w.last.Detail, w.last.Ended)
	}
	w.send(stream.FromInitiator, segment{payload: readRequest(1), options: []byte{30, 4, 0x20, 1}})
	w.mustDeny("Multipath TCP", verdict.ReasonTCPOption)
	if !w.last.Ended {
		t.Error("not said to end the connection")
	}
}
