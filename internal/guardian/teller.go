package guardian

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/flowtable"
)

// Teller sends probes by raw sockets with headers of ours (raw(7), IPPROTO_RAW).
type Teller struct {
	fd4, fd6 int // -1 where the kernel has not got the family
}

// NewTeller opens the sockets, in the network namespace of the calling thread. It takes
// CAP_NET_RAW.
func NewTeller() (*Teller, error) {
	s := &Teller{-1, -1}
	for af, fd := range map[int]*int{unix.AF_INET: &s.fd4, unix.AF_INET6: &s.fd6} {
		var err error
		if *fd, err = unix.Socket(af, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil && err != unix.EAFNOSUPPORT {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Close closes the sockets.
func (s *Teller) Close() error {
	var errs []error
	for _, fd := range []int{s.fd4, s.fd6} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}

// Rounds are when probes are sent, after the end of the process.
type Rounds []time.Duration

var (
	// Soon is where the interface goes on as it was: the late round is for packets that are
	// lost.
	Soon = Rounds{0, 20 * time.Millisecond, 60 * time.Millisecond, 130 * time.Millisecond, time.Second}
	// Late is where the XDP program goes with the process. Its driver may then reset the
	// NIC, which carries nothing for a while.
	Late = append(Soon[:len(Soon):len(Soon)], 4*time.Second)
)

// Tell has the peers of a table's connections ask, most of them at most, and of these
// only those that may says. It returns when all has been sent, or stop is closed.
func (s *Teller) Tell(table, most int, rounds Rounds, may func(*flowtable.Flow) bool, stop <-chan struct{}) error {
	start := time.Now()
	for _, at := range rounds {
		select {
		case <-stop:
			return nil
		case <-time.After(at - time.Since(start)):
		}
		sent := false
		if err := flowtable.Read(table, most, func(f flowtable.Flow) bool {
			if may(&f) {
				sent = true
				s.send(&f)
			}
			return true
		}); err != nil {
			return err
		}
		if !sent {
			break
		}
	}
	return nil
}

// send sends f's probe. A packet that the kernel refuses goes with the next round.
func (s *Teller) send(f *flowtable.Flow) {
	if f.Local.Addr().Is4() != f.Remote.Addr().Is4() {
		return
	}
	var b [MaxProbe]byte
	n := probe(b[:], f)
	fd := s.fd6
	var to unix.Sockaddr = &unix.SockaddrInet6{Addr: f.Remote.Addr().As16(), ZoneId: f.Link}
	if f.Remote.Addr().Is4() {
		fd = s.fd4
		to = &unix.SockaddrInet4{Addr: f.Remote.Addr().As4()}
	}
	if fd >= 0 {
		_ = unix.Sendto(fd, b[:n], 0, to)
	}
}
