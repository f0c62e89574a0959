package inlet

import (
	"errors"
	"net/netip"
	"os"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/netns"
	"github.com/onload-go/onload/ip"
)

// Errors reads the ICMP errors that the kernel receives. XDP takes those about our
// flows on our links, so they came by others, or are the kernel's. Nothing but such
// errors reaches its sockets.
type Errors struct {
	deliver func(*ip.ICMPError)
	files   []*os.File
	closing atomic.Bool
	done    chan struct{} // has one element for each goroutine that has ended
}

// The filters of raw sockets: a bit is set where a type does not come. Destination
// unreachable, time exceeded and parameter problem come, of IPv6 packet too big too.
const (
	solRaw     = 255 // SOL_RAW, <linux/icmp.h>
	icmpFilter = 1
	filter4    = ^(1<<3 | 1<<11 | 1<<12)
	filter6    = ^uint32(1<<1 | 1<<2 | 1<<3 | 1<<4)
)

// OpenErrors begins to read in a namespace, which need not stay open. deliver is
// called by two goroutines. It takes CAP_NET_RAW.
func OpenErrors(ns netns.Handle, log *zap.Logger, deliver func(*ip.ICMPError)) (*Errors, error) {
	e := &Errors{deliver: deliver, done: make(chan struct{}, 2)}
	err := ns.Do(func() error {
		for _, open := range []func() (int, error){open4, open6} {
			fd, err := open()
			if err == unix.EAFNOSUPPORT {
				continue
			}
			if err != nil {
				return err
			}
			e.files = append(e.files, os.NewFile(uintptr(fd), "icmp"))
		}
		return nil
	})
	for _, f := range e.files {
		go func() {
			if err := e.read(f); err != nil && !e.closing.Load() {
				log.Error("inlet: ICMP errors by interfaces that are not accelerated are lost", zap.Error(err))
			}
			e.done <- struct{}{}
		}()
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func open4() (int, error) {
	mask := int32(filter4)
	return openRaw(unix.AF_INET, unix.IPPROTO_ICMP, func(fd int) error {
		return unix.SetsockoptInt(fd, solRaw, icmpFilter, int(mask))
	})
}

func open6() (int, error) {
	filter := unix.ICMPv6Filter{Data: [8]uint32{filter6}}
	for i := range filter.Data[1:] {
		filter.Data[i+1] = ^uint32(0)
	}
	return openRaw(unix.AF_INET6, unix.IPPROTO_ICMPV6, func(fd int) error {
		if err := unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter); err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
}

func openRaw(family, proto int, set func(fd int) error) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return -1, err
	}
	if err := set(fd); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt", err)
	}
	return fd, nil
}

// read delivers what f receives, until it is closed.
func (e *Errors) read(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	b, oob := make([]byte, 2048), make([]byte, 64)
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		for !e.closing.Load() { // Close waits, and errors may never end
			n, control, _, from, err := unix.Recvmsg(int(fd), b, oob, unix.MSG_DONTWAIT)
			switch err {
			case nil:
				e.message(b[:n], oob[:control], from)
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				failed = os.NewSyscallError("recvmsg", err)
				return true
			}
		}
		return true
	})
	return errors.Join(err, failed)
}

// message delivers the error b: of IPv4 behind its IP header, of IPv6 without, where
// oob has its destination.
func (e *Errors) message(b, oob []byte, from unix.Sockaddr) {
	var p ip.Packet
	var sum uint16
	if from, ok := from.(*unix.SockaddrInet6); ok {
		p.V6, p.Src = true, netip.AddrFrom16(from.Addr)
		var ok bool
		if p.Dst, ok = destination6(oob); !ok {
			return
		}
		sum = ip.PseudoSum(p.Src, p.Dst, ip.ProtoICMPv6, len(b))
	} else {
		const least = 20
		if len(b) < least {
			return
		}
		p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		b = b[min(len(b), int(b[0]&15)*4):]
	}
	var icmp ip.ICMPError
	if ip.Add(sum, ip.Sum(b)) == 0xffff && ip.ParseICMPError(&p, b, &icmp) {
		e.deliver(&icmp)
	}
}

// destination6 returns the address of an IPV6_PKTINFO among control messages.
func destination6(oob []byte) (netip.Addr, bool) {
	ms, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, m := range ms {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 16 {
			return netip.AddrFrom16([16]byte(m.Data)), true
		}
	}
	return netip.Addr{}, false
}

// Close ends the reading, and waits until deliver has returned.
func (e *Errors) Close() error {
	e.closing.Store(true) // a RawConn's error of a closed file is not os.ErrClosed
	var errs []error
	for _, f := range e.files {
		errs = append(errs, f.Close())
	}
	for range e.files {
		<-e.done
	}
	return errors.Join(errs...)
}
