package repair

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/tcp"
)

// longAgo is the age of a TS.Recent that nobody knows: after 24 days it excludes no
// segment (RFC 7323 section 5.5).
const longAgo = 25 * 24 * time.Hour

// Dump describes the connection of a socket of the kernel's. The socket hears nothing
// from then on: what its peer sends is lost as on the way, unless somebody keeps it. It
// stays in repair. Drop ends it, Undump has it go on. After an error it goes on.
//
// The kernel does not tell TS.Recent: TSRecentAge says so, by being above 24 days.
func Dump(fd int) (*tcp.Snapshot, error) {
	s := socket(fd)
	if err := s.repair(); err != nil {
		return nil, err
	}
	if err := s.deafen(); err != nil {
		return nil, errors.Join(err, s.resume())
	}
	c, err := s.dump()
	if err != nil {
		return nil, errors.Join(err, Undump(fd))
	}
	return c, nil
}

// Undump has a socket go on that Dump has described.
func Undump(fd int) error {
	s := socket(fd)
	err := s.resume()
	return errors.Join(err, s.hearAgain())
}

// deafen has the socket drop all that arrives, by a filter. So nothing can change
// while it is described.
func (s socket) deafen() error {
	// A filter of the program's own could not be put back. The kernel counts its
	// instructions, at most 4,096 of 8 bytes.
	b := make([]byte, 4096*8)
	if n, err := getsockopt(int(s), unix.SOL_SOCKET, unix.SO_GET_FILTER, b); err != nil || n != 0 {
		return fmt.Errorf("the socket has a filter of its own: %w", unix.EBUSY)
	}
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K} // return 0: no byte
	err := unix.SetsockoptSockFprog(int(s), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing})
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
}

func (s socket) hearAgain() error {
	return os.NewSyscallError("setsockopt SO_DETACH_FILTER", unix.SetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0))
}

// marks are what changes when the socket hears something.
type marks struct {
	writeSeq, rcvNxt   uint32
	outstanding, state uint32
}

func (s socket) marks() (m marks, err error) {
	if m.writeSeq, err = s.seq(sendQueue); err != nil {
		return m, err
	}
	if m.rcvNxt, err = s.seq(recvQueue); err != nil {
		return m, err
	}
	n, err := unix.IoctlGetInt(int(s), unix.SIOCOUTQ)
	if err != nil {
		return m, os.NewSyscallError("ioctl SIOCOUTQ", err)
	}
	i, err := s.info()
	m.outstanding, m.state = uint32(n), uint32(i.state)
	return m, err
}

// tries is how often a socket is described again that has heard something meanwhile:
// a packet may have passed the filter before it was there.
const tries = 10

func (s socket) dump() (*tcp.Snapshot, error) {
	for range tries {
		was, err := s.marks()
		if err != nil {
			return nil, err
		}
		c, err := s.describe(was)
		if err != nil {
			return nil, err
		}
		if now, err := s.marks(); err != nil || now == was {
			return c, err
		}
	}
	return nil, fmt.Errorf("the socket hears through its filter: %w", unix.EBUSY)
}

// describe makes the Snapshot of a socket in repair.
func (s socket) describe(m marks) (*tcp.Snapshot, error) {
	i, err := s.info()
	if err != nil {
		return nil, err
	}
	state, ok := kernelStates[i.state]
	if !ok {
		return nil, fmt.Errorf("state %d of the kernel's: %w", i.state, tcp.ErrState)
	}
	if i.options&optUsecTS != 0 {
		return nil, fmt.Errorf("its timestamps count microseconds: %w", errors.ErrUnsupported)
	}
	c := &tcp.Snapshot{
		State:    state,
		SndScale: i.sndScale, RcvScale: i.rcvScale,
		SACK: i.options&optSACK != 0, Timestamps: i.options&optTimestamps != 0,
		ECN: i.options&optECN != 0, ECT: i.options&optECN != 0,
		SendMSS: clamp16(i.sndMSS), RecvMSS: clamp16(i.rcvMSS), PathMTU: clamp16(i.pmtu),
		TSRecentAge: longAgo,
		Hints:       hints(&i.bits),
	}
	if err := s.ends(c); err != nil {
		return nil, err
	}
	if err := s.windows(c, m); err != nil {
		return nil, err
	}
	if err := s.sending(c, m); err != nil {
		return nil, err
	}
	if err := s.receiving(c); err != nil {
		return nil, err
	}
	if c.Timestamps {
		v, err := unix.GetsockoptInt(int(s), unix.IPPROTO_TCP, unix.TCP_TIMESTAMP)
		if err != nil {
			return nil, os.NewSyscallError("getsockopt TCP_TIMESTAMP", err)
		}
		c.TSVal = uint32(v)
	}
	c.Options = getOptions(int(s), isSix(c))
	return c, nil
}

// ends are the addresses, and the MSS that the peer sent, which a socket in repair
// answers to TCP_MAXSEG.
func (s socket) ends(c *tcp.Snapshot) error {
	local, err := unix.Getsockname(int(s))
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	remote, err := unix.Getpeername(int(s))
	if err != nil {
		return os.NewSyscallError("getpeername", err)
	}
	c.Local, c.Remote = addrPort(local), addrPort(remote)
	if c.Local == (netip.AddrPort{}) {
		return unix.EAFNOSUPPORT
	}
	mss, err := unix.GetsockoptInt(int(s), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
	if err != nil {
		return os.NewSyscallError("getsockopt TCP_MAXSEG", err)
	}
	c.PeerMSS = clamp16(uint32(mss))
	return nil
}

func (s socket) windows(c *tcp.Snapshot, m marks) error {
	w, err := s.window()
	if err != nil {
		return err
	}
	c.SndWL1, c.SndWnd, c.MaxSndWnd = w.get(wndSndWL1), w.get(wndSndWnd), w.get(wndMaxSndWnd)
	c.RcvNxt, c.RcvAcked = m.rcvNxt, w.get(wndRcvWup)
	c.RcvAdv = c.RcvAcked + w.get(wndRcvWnd)
	if int32(c.RcvAdv-c.RcvNxt) < 0 {
		c.RcvAdv = c.RcvNxt // the kernel took more than it had offered
	}
	return nil
}

// sending reads the send queue.
func (s socket) sending(c *tcp.Snapshot, m marks) error {
	unsent, err := unix.IoctlGetInt(int(s), unix.SIOCOUTQNSD)
	if err != nil {
		return os.NewSyscallError("ioctl SIOCOUTQNSD", err)
	}
	c.SndUna, c.SndNxt = m.writeSeq-m.outstanding, m.writeSeq-uint32(unsent)
	n := int(m.outstanding)
	switch c.State {
	case tcp.FinWait1, tcp.Closing, tcp.LastAck:
		if n == 0 {
			return fmt.Errorf("our FIN is acknowledged: %w", unix.EBUSY)
		}
		c.SendFIN = true
		n-- // the FIN
	}
	if n == 0 {
		return nil
	}
	if err := s.queue(sendQueue); err != nil {
		return err
	}
	// The kernel shows whole packets. A part of the first may be acknowledged.
	b := make([]byte, n+largestPiece)
	have, err := s.peek(b)
	if err != nil {
		return err
	}
	if have < n {
		return fmt.Errorf("the send queue shows %d bytes of %d: %w", have, n, unix.EBUSY)
	}
	c.Send = b[have-n : have]
	return nil
}

// receiving reads the receive queue.
func (s socket) receiving(c *tcp.Snapshot) error {
	c.RecvFIN = c.State == tcp.CloseWait || c.State == tcp.Closing || c.State == tcp.LastAck
	n, err := unix.IoctlGetInt(int(s), unix.SIOCINQ)
	if err != nil {
		return os.NewSyscallError("ioctl SIOCINQ", err)
	}
	if n == 0 {
		return nil
	}
	if err := s.queue(recvQueue); err != nil {
		return err
	}
	c.Recv = make([]byte, n)
	have, err := s.peek(c.Recv)
	if err == nil && have != n {
		err = fmt.Errorf("the receive queue shows %d bytes of %d: %w", have, n, unix.EBUSY)
	}
	return err
}

func (s socket) peek(b []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(int(s), b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EINTR) {
			return n, os.NewSyscallError("recvfrom", err)
		}
	}
}

func hints(k *unix.TCPInfo) tcp.SnapshotHints {
	us := func(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }
	ms := func(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }
	h := tcp.SnapshotHints{
		RTT: us(k.Rtt), RTTVar: us(k.Rttvar),
		Cwnd: k.Snd_cwnd * k.Snd_mss,
		Age:  ms(min(k.Last_ack_recv, k.Last_data_recv)), DataAge: ms(k.Last_data_recv),
		Retries: k.Retransmits, Backoff: k.Backoff, Probes: k.Probes,
		BytesAcked: k.Bytes_acked, BytesReceived: k.Bytes_received, BytesRetrans: k.Bytes_retrans,
		SegsIn: k.Segs_in, SegsOut: k.Segs_out, SegsRetrans: k.Total_retrans,
	}
	const infinite = 1<<31 - 1 // TCP_INFINITE_SSTHRESH
	h.Ssthresh = ^uint32(0)
	if k.Snd_ssthresh < infinite {
		h.Ssthresh = k.Snd_ssthresh * k.Snd_mss
	}
	if k.Min_rtt != ^uint32(0) {
		h.MinRTT = us(k.Min_rtt)
	}
	return h
}
