package repair

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/tcp"
)

// window is the kernel's struct tcp_repair_window, in words. Later kernels may append
// to it, and take no other length than their own. What is behind stays as it is.
type window []byte

// Words of window.
const (
	wndSndWL1 = 4 * iota
	wndSndWnd
	wndMaxSndWnd
	wndRcvWnd
	wndRcvWup
	wndKnown
)

const wndLongest = wndKnown + 64 // bytes; a kernel that wants more is refused

func (w window) get(off int) uint32    { return binary.NativeEndian.Uint32(w[off:]) }
func (w window) put(off int, v uint32) { binary.NativeEndian.PutUint32(w[off:], v) }

// window reads the windows of a socket in repair, as long as this kernel has them.
func (s socket) window() (window, error) {
	for n := wndKnown; n <= wndLongest; n += 4 {
		w := make(window, n)
		have, err := getsockopt(int(s), unix.IPPROTO_TCP, unix.TCP_REPAIR_WINDOW, w)
		if err == nil {
			return w[:max(have, wndKnown)], nil
		}
		if !errors.Is(err, unix.EINVAL) {
			return nil, os.NewSyscallError("getsockopt TCP_REPAIR_WINDOW", err)
		}
	}
	return nil, os.NewSyscallError("getsockopt TCP_REPAIR_WINDOW", unix.EINVAL)
}

// setWindow gives the socket the windows of c. It expects rcvNxt. With shut the peer's
// window is shut, so that nothing leaves yet.
func (s socket) setWindow(c *tcp.Snapshot, rcvNxt uint32, shut bool) error {
	w, err := s.window()
	if err != nil {
		return err
	}
	// RCV.WUP is what we acknowledged last. It may count a FIN that the socket has not
	// got yet.
	wup := c.RcvAcked
	if int32(wup-rcvNxt) > 0 {
		wup = rcvNxt
	}
	rcvWnd := c.RcvAdv - wup
	if rcvNxt != c.RcvNxt && c.RcvAdv == rcvNxt {
		rcvWnd++ // for the peer's FIN, which a shut window keeps out
	}
	w.put(wndSndWL1, c.SndWL1)
	w.put(wndSndWnd, c.SndWnd)
	w.put(wndMaxSndWnd, max(c.MaxSndWnd, c.SndWnd))
	if shut {
		w.put(wndSndWnd, 0)
	}
	w.put(wndRcvWnd, rcvWnd)
	w.put(wndRcvWup, wup)
	err = unix.SetsockoptString(int(s), unix.IPPROTO_TCP, unix.TCP_REPAIR_WINDOW, string(w))
	return os.NewSyscallError("setsockopt TCP_REPAIR_WINDOW", err)
}
