package interop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// pingPong echoes one byte on c, within limit.
func pingPong(c net.Conn, limit time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	b := []byte{1}
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}

// established makes a connection from an engine in A to an echoing kernel
// socket in B.
func established(t *testing.T, o lab.Options) (*lab.Pair, *onload.Engine, net.Conn, string) {
	t.Helper()
	pair := lab.NewPair(t, o)
	e, c, addr := establish(t, pair)
	return pair, e, c, addr
}

func establish(t *testing.T, pair *lab.Pair) (*onload.Engine, net.Conn, string) {
	t.Helper()
	e := engine(t, pair.A)
	l := listenOn(t, pair.B, pair.B.Addr4)
	go echoAll(l)
	c, err := e.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := pingPong(c, hung); err != nil {
		t.Fatal(err)
	}
	return e, c, l.Addr().String()
}

// TestLinkDownUp: a connection outlives its link's going down and up.
func TestLinkDownUp(t *testing.T) {
	pair, e, c, addr := established(t, lab.Options{})
	if err := pair.A.SetDown(); err != nil {
		t.Fatal(err)
	}
	if err := pingPong(c, 200*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("while the link is down: %v, want a timeout", err)
	}
	if d, err := e.DialTimeout("tcp", addr, 300*time.Millisecond); err == nil {
		d.Close()
		t.Error("connected over a link that is down")
	}
	if err := pair.A.SetUp(); err != nil {
		t.Fatal(err)
	}
	if err := pingPong(c, hung); err != nil {
		t.Errorf("after the link came up again: %v", err)
	}
	// Addresses of the other family may be gone with the link; v4's are not.
	d, err := e.DialTimeout("tcp", addr, hung)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

// TestAddressRemoved: new connections from an address that is gone fail, and
// nothing hangs.
func TestAddressRemoved(t *testing.T) {
	pair, e, c, addr := established(t, lab.Options{})
	prefix := netip.PrefixFrom(pair.A.Addr4, 24)
	if err := pair.A.DelAddr(prefix); err != nil {
		t.Fatal(err)
	}
	settled(t, hung, func() error { // netlink's news take a moment
		if pingPong(c, 300*time.Millisecond) == nil {
			return errors.New("the connection of a removed address still works")
		}
		return nil
	})
	if d, err := e.DialTimeout("tcp", addr, hung); err == nil {
		d.Close()
		t.Error("connected without an address")
	} else if !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("dial without an address: %v, want network is unreachable", err)
	}
	if err := pair.A.AddAddr(prefix); err != nil {
		t.Fatal(err)
	}
	settled(t, hung, func() error {
		d, err := e.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			d.Close()
		}
		return err
	})
}

// TestMTUChanged: a connection adapts to a smaller MTU, and to a larger one.
func TestMTUChanged(t *testing.T) {
	pair, _, c, _ := established(t, lab.Options{MTU: 3000})
	for _, mtu := range []int{1280, 3000} {
		if err := errors.Join(pair.A.SetMTU(mtu), pair.B.SetMTU(mtu)); err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(hung)); err != nil {
			t.Fatal(err)
		}
		data := make([]byte, 1<<20)
		go c.Write(data)
		if _, err := io.ReadFull(c, data); err != nil {
			t.Fatalf("MTU %d: %v", mtu, err)
		}
	}
}

// foreign attaches another XDP program to ns's interface.
func foreign(t *testing.T, ns *lab.NS) link.Link {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "someone_elses", Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2 /* XDP_PASS */), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	var l link.Link
	if err := ns.Do(func() (err error) {
		l, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: ns.Index})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestForeignProgram: an interface with another XDP program is refused, and the
// error names that program.
func TestForeignProgram(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	foreign(t, pair.A)
	e, err := onload.New(onload.Config{Interfaces: []string{pair.A.If}, NetNS: pair.A.Path})
	if err == nil {
		e.Close()
		t.Fatal("took an interface that has another XDP program")
	}
	for _, want := range []string{pair.A.If, "someone_elses"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %q: %v", want, err)
		}
	}
}

const victimEnv = "ONLOAD_TEST_VICTIM"

// TestVictim is the process that TestKilled kills: an echo server.
func TestVictim(t *testing.T) {
	addr := os.Getenv(victimEnv)
	if addr == "" {
		return // only in the child
	}
	ifname, addr, _ := strings.Cut(addr, " ")
	os.Unsetenv(victimEnv)
	e, err := onload.New(onload.Config{Interfaces: []string{ifname}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("serving")
	echoAll(l)
}

// TestKilled: after kill -9 in the middle of traffic the interface has no
// XDP program, the port is free, and the kernel's path works.
func TestKilled(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	addr := netip.AddrPortFrom(pair.A.Addr4, 7000).String()
	c := pair.A.Command("/proc/self/exe", "-test.run=^TestVictim$")
	c.Env = append(os.Environ(), victimEnv+"="+pair.A.If+" "+addr)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for r := bufio.NewReader(out); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal("the victim did not start: ", err)
		}
		if line == "serving\n" {
			break
		}
	}
	conn, err := pair.B.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	traffic := make(chan error, 1)
	go func() {
		b := make([]byte, 64<<10)
		for {
			if _, err := conn.Write(b); err != nil {
				traffic <- err
				return
			}
		}
	}()
	go io.Copy(io.Discard, conn)
	time.Sleep(100 * time.Millisecond)
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	settled(t, hung, func() error {
		l, err := pair.A.Netlink().LinkByName(pair.A.If)
		if err != nil {
			return err
		}
		if x := l.Attrs().Xdp; x != nil && x.Attached {
			return fmt.Errorf("XDP program %d is still attached", x.ProgId)
		}
		return nil
	})
	// The kernel answers the orphaned traffic with a reset.
	select {
	case <-traffic:
	case <-time.After(hung):
		t.Error("the peer's traffic hangs")
	}
	settled(t, hung, func() error {
		l, err := pair.A.Listen("tcp", addr)
		if err != nil {
			return err
		}
		defer l.Close()
		go echoAll(l)
		k, err := pair.B.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer k.Close()
		return pingPong(k, hung)
	})
	// And the interface can be taken again.
	e := engine(t, pair.A)
	l := listenOn(t, e, pair.A.Addr4)
	go echoAll(l)
	if !trip(t, pair.B, l.Addr().String()) {
		t.Error("no service after the interface was taken again")
	}
}
