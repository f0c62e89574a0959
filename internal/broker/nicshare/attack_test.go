package nicshare

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errAllowed is the result of an attempt that should have been refused.
var errAllowed = errors.New("allowed")

// refused turns the kernel's answer round: an attempt is to fail.
func refused(what string, err error, want ...unix.Errno) error {
	if err == nil {
		return fmt.Errorf("%s: %w", what, errAllowed)
	}
	for _, w := range want {
		if errors.Is(err, w) {
			return nil
		}
	}
	return fmt.Errorf("%s: %w, not as expected", what, err)
}

// attempts are what a process with the descriptors of a Grant may try beyond packets.
var attempts = map[string]func(*rings) error{
	"sockets of its own": func(*rings) error {
		_, xdp := unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0)
		_, packet := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		_, raw := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)
		return errors.Join(refused("AF_XDP", xdp, unix.EPERM), refused("AF_PACKET", packet, unix.EPERM), refused("raw", raw, unix.EPERM))
	},
	"bind again": func(r *rings) error {
		// The interface of the host has some index below 64; in the socket's namespace
		// none of them but lo and the far end is anything.
		var errs []error
		for index := 1; index < 64; index++ {
			for _, fd := range []int{r.grant.RX, r.grant.TX} {
				errs = append(errs, refused("AF_XDP", bindXDP(fd, index), unix.EBUSY, unix.EINVAL))
			}
			err := unix.Bind(r.grant.Packet, &unix.SockaddrLinklayer{Protocol: 0x300, Ifindex: index})
			if err == nil {
				name, err := nameOf(r.grant.Packet, index)
				if err != nil || name != "lo" && name != farName {
					errs = append(errs, fmt.Errorf("packet socket at %s (%d): %w", name, index, errAllowed))
				}
			}
		}
		return errors.Join(errs...)
	},
	"rings again": func(r *rings) error {
		var errs []error
		for _, o := range []int{unix.XDP_RX_RING, unix.XDP_TX_RING, unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING} {
			for _, fd := range []int{r.grant.RX, r.grant.TX} {
				errs = append(errs, refused(fmt.Sprint("ring ", o), unix.SetsockoptInt(fd, unix.SOL_XDP, o, 64), unix.EBUSY, unix.EINVAL))
			}
		}
		return errors.Join(errs...)
	},
	"rings of the packet socket": func(r *rings) error {
		q := unix.TpacketReq{Block_size: uint32(os.Getpagesize()), Block_nr: 1, Frame_size: uint32(os.Getpagesize()), Frame_nr: 1}
		var errs []error
		for _, o := range []int{unix.PACKET_RX_RING, unix.PACKET_TX_RING} {
			errs = append(errs, refused(fmt.Sprint("ring ", o), unix.SetsockoptTpacketReq(r.grant.Packet, unix.SOL_PACKET, o, &q), unix.EPERM))
		}
		for _, m := range []int{0, 1} {
			errs = append(errs, refused("mark", unix.SetsockoptInt(r.grant.Packet, unix.SOL_SOCKET, unix.SO_MARK, m), unix.EPERM))
		}
		return errors.Join(errs...)
	},
	"shrink the memory": func(*rings) error { return refused("ftruncate", unix.Ftruncate(7, 0), unix.EPERM) },
	"holes in the memory": func(*rings) error {
		// Harmless: the pages that the kernel uses are pinned.
		return unix.Fallocate(7, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, frames*frameSize)
	},
	"its namespace": func(r *rings) error {
		_, err := unix.IoctlRetInt(r.grant.RX, unix.SIOCGSKNS)
		return refused("SIOCGSKNS", err, unix.EPERM)
	},
	"its interface": func(r *rings) error {
		ifr, err := unix.NewIfreq(farName)
		if err != nil {
			return err
		}
		ifr.SetUint16(0)
		return refused("SIOCSIFFLAGS", unix.IoctlIfreq(r.grant.Packet, unix.SIOCSIFFLAGS, ifr), unix.EPERM)
	},
	"programs": func(r *rings) error {
		var errs []error
		fds, err := os.ReadDir("/proc/self/fd")
		errs = append(errs, err)
		for _, f := range fds {
			to, _ := os.Readlink(filepath.Join("/proc/self/fd", f.Name()))
			if strings.Contains(to, "bpf") || strings.Contains(to, "net:") {
				errs = append(errs, fmt.Errorf("%s: %w", to, errAllowed))
			}
		}
		return errors.Join(errs...)
	},
	"garbage in the rings": func(r *rings) error {
		for _, b := range r.maps {
			for range 8 {
				if _, err := rand.Read(b[:]); err != nil {
					return err
				}
				if err := r.kick(); err != nil {
					return err
				}
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(r.grant.RX), Events: unix.POLLIN}}, 0)
			}
		}
		return nil
	},
	"descriptors outside": func(r *rings) error {
		for i := range uint32(ringSize) {
			*r.tx.desc(r.sent + i) = unix.XDPDesc{Addr: uint64(i) << 40, Len: 1 << 31}
		}
		r.sent += ringSize
		atomic.StoreUint32(r.tx.prod, r.sent)
		return r.kick()
	},
}

// bindXDP binds to queue 0 of an interface.
func bindXDP(fd, index int) error {
	sa := unix.RawSockaddrXDP{Family: unix.AF_XDP, Flags: unix.XDP_COPY, Ifindex: uint32(index)}
	if _, _, e := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa)); e != 0 {
		return e
	}
	return nil
}

// nameOf asks for the name of an interface in the namespace of a socket.
func nameOf(fd, index int) (string, error) {
	ifr, err := unix.NewIfreq(farName)
	if err != nil {
		return "", err
	}
	ifr.SetUint32(uint32(index))
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFNAME, ifr); err != nil {
		return "", err
	}
	return ifr.Name(), nil
}

// A process can do nothing with what it was given but send and receive. What it does
// to its own rings and memory harms nobody else.
func TestAttempts(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	good := start(t, w.A, n, LinkConfig{})
	w.allow(good, udp, port+1)
	peer := observe(t, w.B)
	own := w.out(port+1, false)
	frame := own.build(t)
	patient := start(t, w.A, n, LinkConfig{})
	for name, harms := range map[string]bool{
		"sockets of its own": false, "bind again": false, "rings again": false, "rings of the packet socket": false, "shrink the memory": false, "holes in the memory": false,
		"its namespace": false, "its interface": false, "programs": false, "garbage in the rings": true, "descriptors outside": true,
	} {
		t.Run(name, func(t *testing.T) {
			if name == "rings of the packet socket" && n.guard == nil {
				t.Skip("SKIPPED: this kernel lets no program be attached to its functions. TestInGuest runs the guard on another")
			}
			p := patient
			if harms {
				p = start(t, w.A, n, LinkConfig{})
			}
			w.allow(p, udp, port)
			if a := p.try(order{Try: name}); a.Err != "" {
				t.Error(a.Err)
			}
			good.do(order{Send: [][]byte{frame}})
			for _, f := range peer.wait(1) {
				if string(f) != string(frame) {
					t.Errorf("left: %x", f)
				}
			}
			w.send(t, own)
			good.do(order{Receive: 1})
			if harms {
				p.kill()
				must(t, p.link.Close())
				return
			}
			must(t, p.link.Revoke(Port{udp, w.A.Addr4, port}, Port{udp, w.A.Addr6, port}))
		})
	}
}

// What the process changes in a page when the filter has seen the packet in it does not
// leave: the kernel copies such pages where a packet crosses to the near end
// (skb_orphan_frags). It takes a ring of the packet socket, as where the kernel has no guard.
func TestChangedAfterFilter(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	if n.guard != nil {
		must(t, n.guard.Unpin())
		must(t, n.guard.Close())
	}
	p := start(t, w.A, n, LinkConfig{})
	w.allow(p, udp, port)
	peer := observe(t, w.B)
	var want LinkCounters
	for _, v6 := range []bool{false, true} {
		honest, other := w.out(port, v6).build(t), w.out(port+1, v6).build(t)
		p.do(order{Shared: honest})
		want.Sent++
		w.settle(p, want, "a packet of a ring")
		p.do(order{Change: other})
		if got := peer.wait(1); len(got) != 1 || !bytes.Equal(got[0], honest) {
			t.Errorf("v6 %v: left: %x", v6, got)
		}
	}
	if got := w.counters(p); got != want {
		t.Errorf("%+v", got)
	}
}
