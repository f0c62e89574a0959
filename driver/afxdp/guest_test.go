//go:build guest

package afxdp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Tests on NICs, in a virtual machine: those of TestGuest run where two of them
// are joined back to back, and named by VMRUN_NIC0_IF and VMRUN_NIC1_IF.
// TESTING.md has the commands. What a NIC cannot do its test skips, and says so.

// nics are the two NICs, up.
func nics(t *testing.T) (names [2]string, hosts [2]host) {
	t.Helper()
	for i := range names {
		names[i] = os.Getenv(fmt.Sprintf("VMRUN_NIC%d_IF", i))
		if names[i] == "" {
			t.Fatal("the tag guest needs a virtual machine with two NICs: see TESTING.md")
		}
		l, err := netlink.LinkByName(names[i])
		must(t, err)
		must(t, netlink.LinkSetUp(l))
		ifi, err := net.InterfaceByName(names[i])
		must(t, err)
		hosts[i] = host{mac: [6]byte(ifi.HardwareAddr), addr: netip.AddrFrom4([4]byte{10, 9, 0, byte(1 + i)})}
	}
	for _, n := range names {
		until(t, func() bool {
			b, err := os.ReadFile("/sys/class/net/" + n + "/carrier")
			return err == nil && string(b) == "1\n"
		})
	}
	return names, hosts
}

func open1(t *testing.T, name string, c Config) *Device {
	t.Helper()
	c.Interface, c.Frames, c.RxRing, c.TxRing = name, 2048, 256, 256
	log, err := zap.NewDevelopment()
	must(t, err)
	c.Log = log
	d, err := Open(c)
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	must(t, d.AddPort(udp, anyPort(80)))
	for _, q := range d.queues.all() {
		q.Refill()
	}
	return d
}

// exchangeGuest sends a datagram from a to b, again where it is lost: a NIC that
// was just opened drops some.
func exchangeGuest(t *testing.T, a, b *Device, src, dst host) {
	t.Helper()
	want := datagram(src, dst, 1000, 80, pattern(500))
	for range 20 {
		send(t, a, a.queues.all()[0], want)
		if got, _ := receive(t, b, b.queues.all()[0], time.Second); got != nil {
			if !bytes.Equal(got, want) {
				t.Fatal("other bytes")
			}
			return
		}
	}
	t.Fatalf("nothing arrives: %+v", b.queues.all()[0].Stats())
}

func needZeroCopy(t *testing.T, d *Device) {
	t.Helper()
	if !d.Caps().ZeroCopy {
		t.Skipf("SKIPPED: %s (%s) has no zero-copy mode: needs virtio or igb", d.Name(), d.Caps().Driver)
	}
}

func needNAPI(t *testing.T, d *Device) {
	t.Helper()
	if d.queues.all()[0].napi == 0 {
		t.Skipf("SKIPPED: the socket on %s (%s) has no NAPI instance", d.Name(), d.Caps().Driver)
	}
}

func TestGuestZeroCopy(t *testing.T) {
	names, hosts := nics(t)
	a, b := open1(t, names[0], Config{}), open1(t, names[1], Config{})
	t.Logf("%+v, NAPI %d", a.Caps(), a.queues.all()[0].napi)
	needZeroCopy(t, a)
	if a.queues.all()[0].napi == 0 {
		t.Error("zero-copy without a NAPI instance")
	}
	exchangeGuest(t, a, b, hosts[0], hosts[1])
	exchangeGuest(t, b, a, hosts[1], hosts[0])
}

// instance asks for the state of the NAPI instance of the first queue.
func instance(t *testing.T, id uint32) napi {
	t.Helper()
	family, err := netdevFamily()
	must(t, err)
	// The kernel has no such instance while the driver stops its queue, as it does when
	// an XDP program comes or goes.
	var n napi
	until(t, func() bool {
		n, err = queryNAPI(family, id)
		return !errors.Is(err, unix.ENOENT)
	})
	must(t, err)
	return n
}

// Frames of either size are in zero-copy mode, and a NIC that has none says so.
func TestGuestFrameSize(t *testing.T) {
	names, hosts := nics(t)
	for _, size := range []int{2048, 4096} {
		a, b := open1(t, names[0], Config{FrameSize: size}), open1(t, names[1], Config{FrameSize: size})
		if c := a.Caps(); c.ZeroCopy == (c.CopyReason != "") || a.arena.FrameSize() != size {
			t.Errorf("zero-copy %v, %q, frames of %d bytes", c.ZeroCopy, c.CopyReason, a.arena.FrameSize())
		}
		t.Logf("%d: %s", size, a.Caps().CopyReason)
		exchangeGuest(t, a, b, hosts[0], hosts[1])
		must(t, a.Close())
		must(t, b.Close())
	}
}

// interrupts is how many the devices have raised so far.
func interrupts(t *testing.T) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/interrupts")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, "eth") && !strings.Contains(line, "input") {
			continue
		}
		for _, w := range strings.Fields(line)[1:] {
			k, err := strconv.Atoi(w)
			if err != nil {
				break
			}
			n += k
		}
	}
	return n
}

// All ways of polling carry packets, and are put back.
func TestGuestNAPI(t *testing.T) {
	for _, want := range []NAPI{NAPIKeep, NAPIDefer, NAPIThread} {
		t.Run(want.String(), func(t *testing.T) {
			names, hosts := nics(t)
			a, b := open1(t, names[0], Config{NAPI: want}), open1(t, names[1], Config{NAPI: want})
			needNAPI(t, a)
			id := a.queues.all()[0].napi
			n := instance(t, id)
			t.Logf("%s; %+v", a.Caps().NAPI, n)
			if set := n.defers == napiDefers && n.flush == uint64(napiFlush); set != (want == NAPIDefer) {
				t.Errorf("%+v", n)
			}
			if set := n.threaded == threadedBusyPoll && n.pid != 0; set != (want == NAPIThread) {
				t.Errorf("%+v", n)
			}
			if a.queues.all()[0].busyPoll != (want == NAPIDefer) {
				t.Error("busy polling:", a.queues.all()[0].busyPoll)
			}
			began, before := time.Now(), interrupts(t)
			for range 20 {
				exchangeGuest(t, a, b, hosts[0], hosts[1])
				exchangeGuest(t, b, a, hosts[1], hosts[0])
			}
			t.Logf("20 round trips: %v, %d interrupts", time.Since(began), interrupts(t)-before)
			must(t, a.Close())
			must(t, b.Close())
			n = instance(t, id)
			if n.defers != 0 || n.flush != 0 || n.threaded != 0 {
				t.Errorf("not put back: %+v", n)
			}
		})
	}
}

const guestChild = "ONLOAD_TEST_GUEST"

func init() {
	name := os.Getenv(guestChild)
	if name == "" {
		return
	}
	d, err := Open(Config{Interface: name, Frames: 2048, RxRing: 256, TxRing: 256, NAPI: NAPIDefer})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(d.queues.all()[0].napi, d.Caps().NAPI)
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// Killed, a process leaves the NIC as it was.
func TestGuestNAPIKilled(t *testing.T) {
	names, _ := nics(t)
	a := open1(t, names[0], Config{})
	needNAPI(t, a)
	must(t, a.Close())
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), guestChild+"="+names[0])
	_, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	var id uint32
	if _, err := fmt.Sscan(line, &id); err != nil || !strings.Contains(line, "a poll after") {
		t.Fatalf("the other process says %q", line)
	}
	if n := instance(t, id); n.defers != napiDefers {
		t.Errorf("%+v", n)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	until(t, func() bool { n := instance(t, id); return n.defers == 0 && n.flush == 0 })
}

// Interrupts are found, and on more than one processor there is something to
// say of them (vmrun -smp 2).
func TestGuestAdvice(t *testing.T) {
	names, _ := nics(t)
	a := open1(t, names[0], Config{})
	said := a.Advice(true)
	t.Logf("%q, interrupts %v", said, queueIRQs(a.index))
	if runtime.NumCPU() == 1 {
		t.Skip("SKIPPED: one processor")
	}
	if len(said) != len(a.queues.all()) || !strings.HasPrefix(said[0], "queue 0 of "+names[0]+": its interrupt ") {
		t.Errorf("%q", said)
	}
	if said := a.Advice(false); len(said) != 0 {
		t.Errorf("%q to a process that sleeps, and may use all processors", said)
	}
}

// A NIC completes what was left to it: the other end gets a whole checksum.
func TestGuestTxChecksum(t *testing.T) {
	names, hosts := nics(t)
	a, b := open1(t, names[0], Config{ZeroCopy: ZeroCopyOff}), open1(t, names[1], Config{ZeroCopy: ZeroCopyOff})
	if !a.Caps().TxCsum {
		t.Skipf("SKIPPED: %s (%s) completes no checksums: needs e1000e or igb", names[0], a.Caps().Driver)
	}
	want := datagram(hosts[0], hosts[1], 1000, 80, pattern(500))
	for range 20 {
		transmit(t, a, a.queues.all()[0], unsummed(t, a, hosts[0], hosts[1], pattern(500)))
		if got, _ := receive(t, b, b.queues.all()[0], time.Second); got != nil {
			if !bytes.Equal(got, want) {
				t.Errorf("got\n% x, want\n% x", got[:50], want[:50])
			}
			return
		}
	}
	t.Fatal("nothing arrives")
}
