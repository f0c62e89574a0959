package afxdp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// program tells which XDP program is on ns's interface.
func program(t *testing.T, ns *lab.NS) (l *linkInfo) {
	t.Helper()
	must(t, ns.Do(func() (err error) {
		l, err = lookupLink(ns.If)
		return err
	}))
	return l
}

func openFiles(t *testing.T) (names []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			names = append(names, to)
		}
	}
	slices.Sort(names)
	return names
}

// noMoreFiles waits until no more descriptors are open than before: what an earlier
// test has left to the garbage collector is closed at any time.
func noMoreFiles(t *testing.T, before []string) {
	t.Helper()
	await(t, fmt.Sprintf("as few descriptors as before: %v", before), func() bool { return len(openFiles(t)) <= len(before) })
}

// A device can be opened again at once, and closed it leaves nothing.
func TestReopen(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{Queues: 2})
			c := Config{Mode: mode, Frames: 1024, RxRing: 256}
			d, err := tryOpen(p.A, c)
			must(t, err)
			must(t, d.Close())
			before := openFiles(t)
			for range 5 {
				d, err := tryOpen(p.A, c)
				must(t, err)
				if l := program(t, p.A); l.prog == 0 || l.progMode != mode.String() {
					t.Errorf("program %d in %s mode", l.prog, l.progMode)
				}
				must(t, d.AddPort(udp, anyPort(7)))
				must(t, d.AddFlow(udp, v4Port(p.A, 7), v4Port(p.B, 7), true))
				must(t, d.Close())
				if l := program(t, p.A); l.prog != 0 {
					t.Errorf("program %d is left", l.prog)
				}
			}
			noMoreFiles(t, before)
		})
	}
}

// The program stays on while the Device is referenced, whatever the GC does.
func TestKeptAlive(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	d := openAt(t, p.A, Config{Frames: 1024, RxRing: 256})
	for range 3 {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	if program(t, p.A).prog == 0 {
		t.Error("detached")
	}
	runtime.KeepAlive(d)
}

func diagnosable(t *testing.T, ns *lab.NS) (ok bool) {
	t.Helper()
	must(t, ns.Do(func() error {
		req := make([]byte, 20)
		req[0] = unix.AF_XDP
		_, err := nlQuery(unix.NETLINK_SOCK_DIAG, unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, req)
		ok = err == nil
		return nil
	}))
	return ok
}

func TestNoSuchInterface(t *testing.T) {
	lab.NeedRoot(t)
	for _, name := range []string{"", "nosuch0", "999999", "averyveryverylongname"} {
		if _, err := Open(Config{Interface: name}); !errors.Is(err, unix.ENODEV) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, c := range []Config{{RxRing: 100}, {TxRing: 8}, {Frames: -1}, {Frames: 1}, {FrameSize: 1000}} {
		c.Interface = "lo"
		if d, err := Open(c); err == nil {
			d.Close()
			t.Errorf("%+v accepted", c)
		}
	}
	p := lab.NewPair(t, lab.Options{})
	if d, err := Open(Config{Interface: p.A.If, InNS: p.A.Do, Queues: []int{64}}); err == nil {
		d.Close()
		t.Error("queue 64 accepted")
	}
}

// TestNoEthernet: loopback and its like are refused. Steered away from the
// kernel, this host's own clients would find nobody.
func TestNoEthernet(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	_, err := Open(Config{Interface: "lo", InNS: p.A.Do})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "lo is no Ethernet link") {
		t.Error(err)
	}
}

// By number, with small frames.
func TestByNumber(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	d, err := Open(Config{Interface: fmt.Sprint(p.A.Index), InNS: p.A.Do, FrameSize: 2048, Frames: 2048})
	must(t, err)
	defer d.Close()
	if d.Name() != p.A.If || d.Index() != p.A.Index || d.Arena().FrameSize() != 2048 {
		t.Errorf("%s, %d", d.Name(), d.Index())
	}
	if n := d.queues.all()[0].Lacks(); n != 1024 {
		t.Errorf("lacks %d, want half of the frames", n)
	}
	d.queues.all()[0].Refill()
	must(t, d.AddPort(udp, anyPort(7)))
	frame := datagram(v4of(p.B), v4of(p.A), 7, 7, pattern(1472))
	injector(t, p.B)(frame)
	if got, n := receive(t, d, d.queues.all()[0], patience); len(got) != len(frame) || n != 1 {
		t.Errorf("received %d bytes in %d", len(got), n)
	}
}

// Without capabilities the error says which are missing.
func TestPermission(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	err := p.A.Do(func() (err error) {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var had, none [2]unix.CapUserData
		must(t, unix.Capget(&hdr, &had[0]))
		none = had
		none[0].Effective, none[1].Effective = 0, 0
		must(t, unix.Capset(&hdr, &none[0]))
		defer func() { must(t, unix.Capset(&hdr, &had[0])) }()
		d, err := Open(Config{Interface: p.A.If})
		if err == nil {
			d.Close()
		}
		return err
	})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "CAP_BPF") || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("error %v", err)
	}
	if strings.Contains(err.Error(), "MEMLOCK") {
		t.Errorf("error %v: a limit on memory is not what is wrong", err)
	}
}

// The mode that Auto chooses on veth, and modes that cannot be had.
func TestModes(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Queues: 2})
	d, err := tryOpen(p.A, Config{})
	must(t, err)
	if c := d.Caps(); c.Mode != "generic" || !c.LargeRx {
		t.Errorf("caps %+v", c)
	}
	must(t, d.Close())
	d, err = tryOpen(p.A, Config{Queues: []int{0}})
	must(t, err)
	if c := d.Caps(); c.Mode != "native" || c.LargeRx {
		t.Errorf("one of two queues: caps %+v", c)
	}
	must(t, d.Close())
	d, err = tryOpen(p.A, Config{ZeroCopy: ZeroCopyRequire})
	want := "afxdp: interface " + p.A.If + " cannot be in zero-copy mode, which ONLOAD_ZEROCOPY=require asks for: " +
		"a veth link has no zero-copy; ONLOAD_ZEROCOPY=auto copies packets where it has to"
	if !errors.Is(err, unix.EOPNOTSUPP) || err.Error() != want {
		t.Errorf("zero-copy on veth: %v, want %v", err, want)
		if err == nil {
			d.Close()
		}
	}
	if program(t, p.A).prog != 0 {
		t.Error("program left")
	}
}
