package onload

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// The kinds of passedRecord. The first three come with a descriptor.
const (
	passedListener = iota + 1
	passedConn
	passedPacketConn
	passedEnd     // of a call of Handoff
	passedAll     // the answer: the successor has them
	passedRefused // the answer: it has none; or instead of passedEnd: Handoff gives up; name is why
)

// passedVersion is that of the records. A successor of another version refuses them.
const passedVersion = 1

const (
	maxPassedName = 1 << 16
	maxPassedData = 1 << 20
	passedHeader  = 16
)

var errPassed = errors.New("onload: what the other process says is no handoff of this version")

// passedRecord is one message of a handoff: "ONLH", version, kind, two octets of 0, the
// lengths of name and data, 4 octets each in network order, and both. The descriptor
// comes with the first octet (SCM_RIGHTS, unix(7)).
type passedRecord struct {
	kind byte
	name string
	data []byte
}

func (r *passedRecord) check() error {
	if len(r.name) > maxPassedName || len(r.data) > maxPassedData {
		return errors.New("onload: name or data of a passed socket are too long")
	}
	return nil
}

func (r *passedRecord) send(to *net.UnixConn, fd int) error {
	r.name = r.name[:min(len(r.name), maxPassedName)] // an error may quote a longer one
	b := append(make([]byte, 0, passedHeader+len(r.name)+len(r.data)), "ONLH"...)
	b = append(b, passedVersion, r.kind, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.name)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.data)))
	b = append(append(b, r.name...), r.data...)
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	n, _, err := to.WriteMsgUnix(b, rights, nil)
	if err == nil && n < len(b) {
		_, err = to.Write(b[n:])
	}
	return err
}

// receive reads one record, and its descriptor if it has one. The error is io.EOF where
// none begins.
func (r *passedRecord) receive(from *net.UnixConn) (f *os.File, err error) {
	defer func() {
		if err != nil && f != nil {
			_ = f.Close()
			f = nil
		}
	}()
	b := make([]byte, passedHeader)
	rights := make([]byte, unix.CmsgSpace(4))
	n, rightsLen, _, _, err := from.ReadMsgUnix(b, rights)
	if errors.Is(err, io.EOF) {
		err = io.EOF // ReadMsgUnix wraps it
	}
	if err != nil {
		return nil, err
	}
	if f, err = rightOf(rights[:rightsLen]); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(from, b[n:]); err != nil {
		return f, noEOF(err)
	}
	name, data := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	r.kind = b[5]
	if string(b[:4]) != "ONLH" || b[4] != passedVersion || b[6]|b[7] != 0 || name > maxPassedName || data > maxPassedData ||
		r.kind < passedListener || r.kind > passedRefused || (r.kind <= passedPacketConn) != (f != nil) {
		return f, errPassed
	}
	text := make([]byte, name+data)
	if _, err := io.ReadFull(from, text); err != nil {
		return f, noEOF(err)
	}
	r.name = string(text[:name])
	if data > 0 {
		r.data = text[name:]
	}
	return f, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// rightOf returns the descriptor of control messages; nil: there is none.
func rightOf(oob []byte) (f *os.File, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	l, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range l {
		fds, err := unix.ParseUnixRights(&l[i])
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			if f != nil {
				_ = unix.Close(fd)
				continue
			}
			f = os.NewFile(uintptr(fd), "passed")
		}
	}
	return f, nil
}
