package dnp3

import (
	"bytes"
	"fmt"
	"time"
)

// Refusal is a reply that says no.
type Refusal struct {
	Function Function
	IIN      IIN
	Status   Status // of the control that was refused first
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("%v refused: indications 0x%04x, status %d", r.Function, uint16(r.IIN), r.Status)
}

// Do is Ask, with an indicated error for an error.
func (m *Master) Do(function Function, body ...[]byte) (Reply, error) {
	r, err := m.Ask(function, body...)
	if err == nil && r.IIN&iinErrors != 0 {
		err = &Refusal{Function: function, IIN: r.IIN}
	}
	return r, err
}

// Integrity reads everything: events of all classes, and what is static.
func (m *Master) Integrity() ([]Header, error) {
	return m.Read(Class(1), Class(2), Class(3), Class(0))
}

// Read reads what the headers name. Indications are no error, since a sticky outstation repeats
// those of another request, but a reply without objects then is.
func (m *Master) Read(headers ...[]byte) ([]Header, error) {
	r, err := m.Ask(Read, headers...)
	if err != nil {
		return nil, err
	}
	if r.IIN&iinErrors != 0 && len(r.Body) == 0 {
		return nil, &Refusal{Function: Read, IIN: r.IIN}
	}
	return r.Headers()
}

// SelectOperate selects controls and operates them.
func (m *Master) SelectOperate(controls []byte) error {
	if err := m.Control(Select, controls); err != nil {
		return err
	}
	return m.Control(Operate, controls)
}

// Control sends controls and holds the reply against them: the same, each with the status of a
// success. A DIRECT_OPERATE_NR has no reply.
func (m *Master) Control(function Function, controls []byte) error {
	r, err := m.Ask(function, controls)
	if err != nil || function.unanswered() {
		return err
	}
	if r.IIN&iinErrors != 0 && (len(controls) == 0 || !bytes.Equal(r.Body, controls)) {
		return &Refusal{Function: function, IIN: r.IIN, Status: firstStatus(r.Body)}
	}
	if status := firstStatus(r.Body); status != StatusSuccess {
		return &Refusal{Function: function, IIN: r.IIN, Status: status}
	}
	if !bytes.Equal(r.Body, controls) {
		return fmt.Errorf("%v: the reply has % x, want % x", function, r.Body, controls)
	}
	return nil
}

// firstStatus returns the first status of a control reply that is not a success.
func firstStatus(body []byte) Status {
	headers, _ := ParseHeaders(body, Response)
	for _, h := range headers {
		for _, o := range h.Objects {
			if n := len(o.Data); n > 0 && controllable(h.Kind) && o.Data[n-1] != 0 {
				return Status(o.Data[n-1])
			}
		}
	}
	return StatusSuccess
}

// SetTime measures the delay and writes the time, as over a line that is not a LAN.
func (m *Master) SetTime(t time.Time) error {
	if _, err := m.Do(DelayMeasure); err != nil {
		return err
	}
	_, err := m.Do(Write, TimeObject(50, 1, t))
	return err
}

// SetTimeLAN has the outstation note the time of a request, and then says when that was.
func (m *Master) SetTimeLAN(t time.Time) error {
	if _, err := m.Do(RecordCurrentTime); err != nil {
		return err
	}
	_, err := m.Do(Write, TimeObject(50, 3, t))
	return err
}

// TimeObject is a time as a WRITE carries it.
func TimeObject(group, variation uint8, t time.Time) []byte {
	return Spell(Kind{group, variation}, 0x07, Object{Data: appendTime(nil, t)})
}

// Enable has the outstation report the events of all classes unasked.
func (m *Master) Enable() error {
	_, err := m.Do(EnableUnsolicited, Class(1), Class(2), Class(3))
	return err
}

// Disable ends that.
func (m *Master) Disable() error {
	_, err := m.Do(DisableUnsolicited, Class(1), Class(2), Class(3))
	return err
}

// Begin does what a master does first on a connection: nothing unasked, the restart indication
// cleared, everything read, the time set if it is needed, and then events unasked.
func (m *Master) Begin() error {
	if err := m.Disable(); err != nil {
		return err
	}
	if m.Indications()&IINRestart != 0 && !m.config.Eager {
		if _, err := m.Do(Write, ClearRestart()); err != nil {
			return err
		}
	}
	if _, err := m.Integrity(); err != nil {
		return err
	}
	if m.Indications()&IINNeedTime != 0 {
		if err := m.SetTime(time.Now()); err != nil {
			return err
		}
	}
	return m.Enable()
}

// ResetLink resets the outstation's link layer.
func (m *Master) ResetLink() error { return m.link(ResetLinkStates, LinkACK) }

// KeepAlive asks the outstation's link layer whether it is there.
func (m *Master) KeepAlive() error { return m.link(RequestLinkStatus, LinkStatus) }

func (m *Master) link(function, want byte) error {
	m.request.Lock()
	defer m.request.Unlock()
	for len(m.status) > 0 {
		<-m.status
	}
	f := Frame{Control: LinkDIR | LinkPRM | function, Destination: m.config.Outstation, Source: m.config.Address}
	m.ch.send(f.Append(nil))
	timeout := time.After(m.config.Timeout)
	for {
		select {
		case f := <-m.status:
			if f.function() == want {
				return nil
			}
		case <-timeout:
			return fmt.Errorf("link function %d: %w within %v", function, ErrTimeout, m.config.Timeout)
		case <-m.ch.over:
			return fmt.Errorf("link function %d: the connection is over: %w", function, m.Err())
		}
	}
}

// free makes a request about a file and returns the one object of the reply.
func (m *Master) free(function Function, variation uint8, o Object) (uint8, []byte, error) {
	r, err := m.Do(function, Spell(Kind{70, variation}, QualifierFree, o))
	if err != nil {
		return 0, nil, err
	}
	headers, err := r.Headers()
	if err != nil || len(headers) != 1 || headers[0].Group != 70 || len(headers[0].Objects) != 1 {
		return 0, nil, fmt.Errorf("%v: the reply has no object of a file: % x, %w", function, r.Body, err)
	}
	return headers[0].Variation, headers[0].Objects[0].Data, nil
}

// FileError is a status of a file request.
type FileError struct {
	Function Function
	Status   FileStatus
}

func (e *FileError) Error() string { return fmt.Sprintf("%v: file status %d", e.Function, e.Status) }

// fileState makes a request that a g70v4 answers.
func (m *Master) fileState(function Function, variation uint8, o Object) (FileState, error) {
	_, data, err := m.free(function, variation, o)
	if err != nil {
		return FileState{}, err
	}
	s, ok := parseFileState(data)
	if !ok {
		return s, fmt.Errorf("%v: the reply has % x for a status", function, data)
	}
	if s.Status != FileSuccess {
		return s, &FileError{function, s.Status}
	}
	return s, nil
}

// OpenFile opens a file; size is that of one to be written.
func (m *Master) OpenFile(name string, mode uint16, size int) (FileState, error) {
	c := fileCommand{name: name, mode: mode, size: uint32(size), block: 1024, id: 7}
	return m.fileState(OpenFile, 3, c.object())
}

// CloseFile closes it.
func (m *Master) CloseFile(s FileState) error {
	_, err := m.fileState(CloseFile, 4, FileState{Handle: s.Handle, ID: s.ID}.object())
	return err
}

// DeleteFile removes a file.
func (m *Master) DeleteFile(name string) error {
	_, err := m.fileState(DeleteFile, 3, fileCommand{name: name, id: 8}.object())
	return err
}

// FileInfo asks how long a file is.
func (m *Master) FileInfo(name string) (FileDescriptor, error) {
	variation, data, err := m.free(GetFileInfo, 7, FileDescriptor{Name: name, id: 9}.object())
	if err != nil {
		return FileDescriptor{}, err
	}
	if variation != 7 {
		s, _ := parseFileState(data)
		return FileDescriptor{}, &FileError{GetFileInfo, s.Status}
	}
	d, ok := parseFileDescriptor(data)
	if !ok {
		return d, fmt.Errorf("%v: the reply has % x for a descriptor", GetFileInfo, data)
	}
	return d, nil
}

// ReadFile transfers a whole file from the outstation.
func (m *Master) ReadFile(name string) (contents []byte, err error) {
	s, err := m.OpenFile(name, FileRead, 0)
	if err != nil {
		return nil, err
	}
	for number := uint32(0); ; number++ {
		variation, data, err := m.free(Read, 5, block(s.Handle, number, nil))
		if err != nil {
			return nil, err
		}
		c := cursor{b: data}
		_, got := c.number(4), c.number(4)
		if variation != 5 || c.err != nil || got&^lastBlock != number {
			return nil, fmt.Errorf("read block %d of %s: got g70v%d, % x", number, name, variation, data)
		}
		contents = append(contents, c.b...)
		if got&lastBlock != 0 {
			return contents, m.CloseFile(s)
		}
	}
}

// WriteFile transfers a whole file to the outstation.
func (m *Master) WriteFile(name string, contents []byte) error {
	s, err := m.OpenFile(name, FileWrite, len(contents))
	if err != nil {
		return err
	}
	for number := uint32(0); ; number++ {
		n := min(int(s.Block), len(contents))
		sent := number
		if n == len(contents) {
			sent |= lastBlock
		}
		variation, data, err := m.free(Write, 5, block(s.Handle, sent, contents[:n]))
		if err != nil {
			return err
		}
		c := cursor{b: data}
		c.octets(8)
		if status := FileStatus(c.number(1)); variation != 6 || c.err != nil || status != FileSuccess {
			return &FileError{Write, status}
		}
		if sent&lastBlock != 0 {
			return m.CloseFile(s)
		}
		contents = contents[n:]
	}
}
