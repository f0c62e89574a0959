package neigh

import (
	"bytes"
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// live is a Host on one end of a veth pair, whose other end is a kernel's. All of
// it runs in one goroutine, which do interrupts.
type live struct {
	*end
	f     *os.File
	start time.Time
	calls chan func()
	done  chan struct{}
}

func (l *live) Send(frame []byte) { _, _ = l.f.Write(frame) } // a lost frame is asked for again

func (l *live) now() int64 { return int64(time.Since(l.start)) }

// do runs fn between two messages.
func (l *live) do(fn func(now int64)) {
	ran := make(chan struct{})
	l.calls <- func() { fn(l.now()); close(ran) }
	<-ran
}

// eventually waits until fn reports true.
func (l *live) eventually(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		var ok bool
		l.do(func(int64) { ok = fn() })
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a minute passed without: " + what)
		}
	}
}

// goLive puts a host with these addresses on the end of the pair that has none.
func goLive(t *testing.T, ns *lab.NS, mac [6]byte, addrs ...string) *live {
	return goLiveAs(t, Config{}, ns, mac, addrs...)
}

// goLiveAs puts a host there whose configuration c is completed.
func goLiveAs(t *testing.T, c Config, ns *lab.NS, mac [6]byte, addrs ...string) *live {
	l := &live{
		end: &end{known: map[netip.Addr][6]byte{}, gone: map[netip.Addr]int{}, inUse: map[netip.Addr]bool{}, state: map[netip.Addr]error{}},
		f:   packetSocket(t, ns), start: time.Now(), calls: make(chan func()), done: make(chan struct{}),
	}
	c.MAC, c.Out = mac, l
	for _, a := range addrs {
		c.Addrs = append(c.Addrs, netip.MustParsePrefix(a))
	}
	l.Host = New(c, 0)
	frames := make(chan []byte)
	go func() {
		defer close(frames)
		b := make([]byte, 4096)
		for {
			n, err := l.f.Read(b)
			if err != nil {
				return
			}
			select {
			case frames <- bytes.Clone(b[:n]):
			case <-l.done:
				return
			}
		}
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			var due <-chan time.Time
			if next := l.Next(); next != math.MaxInt64 {
				due = time.After(time.Duration(next - l.now()))
			}
			select {
			case b, ok := <-frames:
				if !ok {
					return
				}
				l.Input(b, l.now())
			case <-due:
				l.Advance(l.now())
			case fn := <-l.calls:
				fn()
			case <-l.done:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(l.done)
		l.f.Close()
		<-ended
	})
	return l
}

// packetSocket receives and sends all frames of the namespace's link.
func packetSocket(t *testing.T, ns *lab.NS) *os.File {
	var f *os.File
	err := ns.Do(func() error {
		const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), "packet")
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ns.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// kernelPair is a pair whose end A has no kernel: no addresses, no IPv6.
func kernelPair(t *testing.T) *lab.Pair {
	p := lab.NewPair(t, lab.Options{NoAddr: true})
	if err := p.A.Sysctl("net.ipv6.conf."+p.A.If+".disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.0.0.2/24", "fd00::2/64"} {
		if err := p.B.AddAddr(netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// kernelMAC is the link-layer address of the kernel's end.
func kernelMAC(t *testing.T, p *lab.Pair) [6]byte {
	link, err := p.B.Netlink().LinkByIndex(p.B.Index)
	if err != nil {
		t.Fatal(err)
	}
	return [6]byte(link.Attrs().HardwareAddr)
}

// pingUntil pings an address until it answers.
func pingUntil(t *testing.T, from *lab.NS, to netip.Addr) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		err := from.Ping(to)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("ping %v: %v", to, err)
		}
	}
}

// TestKernel: a kernel finds us and is found, pings us, moves, and is heard.
func TestKernel(t *testing.T) {
	p := kernelPair(t)
	l := goLive(t, p.A, mac(9), "10.0.0.1/24", "fd00::1/64")
	us := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	kernel := []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}
	l.eventually(t, "our addresses are ours", func() bool {
		for _, a := range us {
			if err, ok := l.state[a]; !ok || err != nil {
				return false
			}
		}
		return true
	})
	for i := range us {
		l.do(func(now int64) {
			l.inUse[kernel[i]] = true
			l.Resolve(kernel[i], now)
		})
		was := kernelMAC(t, p)
		l.eventually(t, "the kernel answers", func() bool { return l.known[kernel[i]] == was })
		pingUntil(t, p.B, us[i])
		neigh, err := p.B.Netlink().NeighList(p.B.Index, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, n := range neigh {
			if a, _ := netip.AddrFromSlice(n.IP); a.Unmap() == us[i] {
				found = bytes.Equal(n.HardwareAddr, net.HardwareAddr{2, 0, 0, 0, 0, 9})
			}
		}
		if !found {
			t.Errorf("the kernel knows %v", neigh)
		}
	}
	// The kernel's link-layer address changes, and it says so (arp_notify,
	// ndisc_notify).
	for _, s := range []string{"net.ipv4.conf.", "net.ipv6.conf."} {
		key := ".arp_notify"
		if s == "net.ipv6.conf." {
			key = ".ndisc_notify"
		}
		if err := p.B.Sysctl(s+p.B.If+key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	l.eventually(t, "the address may change again", func() bool { return l.now()-l.cache[kernel[1]].moved > lockTime })
	link, err := p.B.Netlink().LinkByIndex(p.B.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.B.Netlink().LinkSetHardwareAddr(link, net.HardwareAddr{2, 0, 0, 0, 0, 8}); err != nil {
		t.Fatal(err)
	}
	for _, a := range kernel {
		l.eventually(t, "the new link-layer address is heard", func() bool { return l.known[a] == mac(8) })
	}
}

// TestKernelHasIt: addresses that a kernel has are found out.
func TestKernelHasIt(t *testing.T) {
	p := kernelPair(t)
	l := goLive(t, p.A, mac(9), "10.0.0.2/24", "fd00::2/64")
	for _, a := range []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")} {
		l.eventually(t, "the duplicate is found out", func() bool { return errors.Is(l.state[a], ErrDuplicate) })
	}
	var visitor [6]byte
	l.do(func(int64) { visitor = l.visitor })
	if visitor != kernelMAC(t, p) {
		t.Errorf("the owner is %x", visitor)
	}
}

// TestKernelFindsOut: a kernel that takes an address of ours finds that out, by its
// own duplicate address detection.
func TestKernelFindsOut(t *testing.T) {
	p := kernelPair(t)
	l := goLive(t, p.A, mac(9), "fd00::1/64")
	us := netip.MustParseAddr("fd00::1")
	l.eventually(t, "our address is ours", func() bool { err, ok := l.state[us]; return ok && err == nil })
	if err := p.B.Sysctl("net.ipv6.conf."+p.B.If+".accept_dad", "1"); err != nil {
		t.Fatal(err)
	}
	link, err := p.B.Netlink().LinkByIndex(p.B.Index)
	if err != nil {
		t.Fatal(err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: us.AsSlice(), Mask: net.CIDRMask(64, 128)}}
	if err := p.B.Netlink().AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
	l.eventually(t, "the kernel finds out", func() bool {
		all, err := p.B.Netlink().AddrList(link, netlink.FAMILY_V6)
		for _, a := range all {
			if err == nil && a.IP.Equal(us.AsSlice()) && a.Flags&unix.IFA_F_DADFAILED != 0 {
				return true
			}
		}
		return false
	})
}
