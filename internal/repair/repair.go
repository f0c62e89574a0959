// Package repair makes sockets of the kernel's out of connections at rest
// (tcp.Snapshot), and the other way round, by TCP_REPAIR. The peer sees none of it: no
// handshake, no FIN and no reset.
//
// It needs CAP_NET_ADMIN in the user namespace of the network namespace, and
// CAP_NET_RAW for a peer's FIN. All functions are called in the network namespace of
// the connection.
//
// Packets that come while nobody has the connection are the caller's to keep
// (internal/stack), and to give back afterwards (driver.Returner, internal/reinject):
// the kernel answers a segment of a connection that it does not know with a reset.
//
// TCP_REPAIR cannot set some of what a Snapshot has. The kernel measures the round trip
// and the congestion window anew, and begins with an RTO of 3 seconds, since it knows no
// handshake (RFC 6298 section 5.7). ECN stays off. TS.Recent is what the next segment brings. A soft error, the
// counters and what is left of running timers are forgotten.
package repair

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/tcp"
)

// The queues of TCP_REPAIR_QUEUE (include/uapi/linux/tcp.h).
const (
	noQueue   = 0
	recvQueue = 1
	sendQueue = 2
)

// socket is the kernel's, in or out of repair.
type socket int

func (s socket) set(opt, v int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(s), unix.IPPROTO_TCP, opt, v))
}

// repair begins repair mode. Without the privilege the error is EPERM, and names it.
func (s socket) repair() error {
	err := unix.SetsockoptInt(int(s), unix.IPPROTO_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_ON)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("a connection cannot change hands: TCP_REPAIR needs CAP_NET_ADMIN: %w", err)
	}
	return os.NewSyscallError("setsockopt TCP_REPAIR", err)
}

// resume ends repair mode without a window probe.
func (s socket) resume() error { return s.set(unix.TCP_REPAIR, unix.TCP_REPAIR_OFF_NO_WP) }

// queue chooses the queue that data and sequence numbers are of.
func (s socket) queue(q int) error { return s.set(unix.TCP_REPAIR_QUEUE, q) }

// setSeq sets the sequence number of the next byte of queue q, while the socket is not
// connected.
func (s socket) setSeq(q int, seq uint32) error {
	if err := s.queue(q); err != nil {
		return err
	}
	return s.set(unix.TCP_QUEUE_SEQ, int(int32(seq)))
}

// seq returns the sequence number behind the last byte of queue q: of the send queue
// behind what is not sent too.
func (s socket) seq(q int) (uint32, error) {
	if err := s.queue(q); err != nil {
		return 0, err
	}
	v, err := unix.GetsockoptInt(int(s), unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
	return uint32(v), os.NewSyscallError("getsockopt TCP_QUEUE_SEQ", err)
}

// Drop ends a connection of the kernel's in silence: nothing is sent, and what is
// queued is lost. All descriptors of the socket are dead afterwards: they read the
// error ECONNABORTED. fd stays open.
func Drop(fd int) error {
	if err := socket(fd).repair(); err != nil {
		return err
	}
	// tcp_disconnect (net/ipv4/tcp.c) sends no reset in repair mode.
	return disconnect(fd)
}

// closeSilently is Drop, and closes fd.
func closeSilently(fd int) {
	_ = socket(fd).repair()
	_ = unix.Close(fd) // in repair mode it does not say goodbye
}

// kernelStates has our states for the kernel's that can change hands
// (include/net/tcp_states.h).
var kernelStates = map[uint8]tcp.State{
	unix.BPF_TCP_ESTABLISHED: tcp.Established,
	unix.BPF_TCP_FIN_WAIT1:   tcp.FinWait1,
	unix.BPF_TCP_FIN_WAIT2:   tcp.FinWait2,
	unix.BPF_TCP_CLOSE_WAIT:  tcp.CloseWait,
	unix.BPF_TCP_LAST_ACK:    tcp.LastAck,
	unix.BPF_TCP_CLOSING:     tcp.Closing,
}
