package engine

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/inspect"
	"github.com/onload-go/onload/internal/inspect/report"
	"github.com/onload-go/onload/internal/record"
)

func init() { inspect.Handle(report.KindCapture, recordFor) }

const (
	bufferDefault = 4 << 20
	bufferMost    = 1 << 30
	// spareRings are for stacks that come while packets are recorded.
	spareRings = 8
	page       = 4096
)

// recordFor records packets of all engines for a peer, in memory that it reads, until it
// is gone.
func recordFor(r *inspect.Request) error {
	var want report.Capture
	if err := r.Decode(&want); err != nil {
		return err
	}
	options, buffer, err := recordOptions(&want)
	if err != nil {
		return err
	}
	engines := shownEngines()
	n := spareRings
	for _, e := range engines {
		n += len(e.working())
	}
	m, err := newRecordings(n, record.Size(buffer))
	if err != nil {
		return err
	}
	defer m.close()
	var errs []error
	recorded := 0
	for _, e := range engines {
		stop, err := e.Tap(func(interfaces []string) (driver.Tap, error) { return m.tap(interfaces, options) })
		if err != nil {
			errs = append(errs, err)
			continue
		}
		recorded++
		defer stop()
	}
	if recorded == 0 {
		return errors.Join(errs...)
	}
	if err := r.Send(report.CaptureReady{Rings: n, Size: m.size, Stride: m.stride}, m.f); err != nil {
		return err
	}
	r.Wait()
	return nil
}

// recordOptions checks what a peer wants.
func recordOptions(want *report.Capture) (o *record.Options, buffer int, err error) {
	o = &record.Options{SnapLen: want.SnapLen, Interface: want.Interface, NoMatch: want.NoMatch}
	if buffer = want.Buffer; buffer == 0 {
		buffer = bufferDefault
	}
	switch {
	case want.SnapLen < 0:
		return nil, 0, errors.New("a negative number of bytes of each packet")
	case buffer < 0 || buffer > bufferMost:
		return nil, 0, fmt.Errorf("a buffer has at most %d bytes", bufferMost)
	}
	switch want.Direction {
	case "":
	case "in":
		o.Direction = record.In
	case "out":
		o.Direction = record.Out
	default:
		return nil, 0, fmt.Errorf("direction %q is neither in nor out", want.Direction)
	}
	for _, i := range want.Filter {
		if i[0] > 1<<16-1 || i[1] > 255 || i[2] > 255 {
			return nil, 0, errors.New("the filter has an impossible instruction")
		}
		o.Filter = append(o.Filter, bpf.RawInstruction{Op: uint16(i[0]), Jt: uint8(i[1]), Jf: uint8(i[2]), K: i[3]})
	}
	return o, buffer, nil
}

// recordings is the memory of a peer's rings, one for each stack.
type recordings struct {
	f            *os.File
	mem          []byte
	size, stride int
	used         int // under the engines' taps.mu, of one engine after the other
}

// newRecordings makes n rings. Nobody, not even the peer, can make the memory smaller
// under the stacks that write to it (F_SEAL_SHRINK); pages exist when they are first
// written.
func newRecordings(n, size int) (*recordings, error) {
	m := &recordings{size: size, stride: (size + page - 1) &^ (page - 1)}
	fd, err := unix.MemfdCreate("onload capture", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	m.f = os.NewFile(uintptr(fd), "capture")
	err = m.f.Truncate(int64(n * m.stride))
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
		err = os.NewSyscallError("fcntl", err)
	}
	if err == nil {
		m.mem, err = unix.Mmap(fd, 0, n*m.stride, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		err = os.NewSyscallError("mmap", err)
	}
	if err != nil {
		return nil, errors.Join(err, m.f.Close())
	}
	return m, nil
}

// tap makes the recorder of another stack.
func (m *recordings) tap(interfaces []string, o *record.Options) (driver.Tap, error) {
	at := m.used * m.stride
	if at >= len(m.mem) {
		return nil, errors.New("too many interfaces came since the capture began")
	}
	m.used++
	return record.NewTap(m.mem[at:at+m.size], interfaces, o)
}

// close gives the memory back. Nobody records any more; the peer may still read.
func (m *recordings) close() {
	_ = unix.Munmap(m.mem)
	_ = m.f.Close()
}
