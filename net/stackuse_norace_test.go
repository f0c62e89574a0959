//go:build !race && amd64

// The limits are of the frames of amd64; the race detector's are larger.

package onload_test

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/stackuse"
	onload "github.com/onload-go/onload/net"
)

// Write and Read use little more stack than the kernel's, over AF_XDP and down
// to the system call: goroutines that were started for one call, as net/http's
// HTTP/2 does, would have their stacks copied. A limit is what the frames of the
// call chain add up to on amd64, and a tenth: a new level, or a large local on
// the way, is more.
func TestStackUse(t *testing.T) {
	// On one processor the reactor does not read what the test is to.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := lab.NewPair(t, lab.Options{})
	cfg := onload.Config{Profile: onload.Throughput}
	a, b := vethEngine(t, p.A, cfg), vethEngine(t, p.B, cfg)
	got := stackUses(t, a, b, p.B.Addr4.String())
	kernel := stackUses(t, p.A, p.B, p.B.Addr4.String())
	for _, l := range []struct {
		call string
		most int // bytes
	}{
		{"tcp Write 64", 920},
		{"tcp Write 1400", 920},
		{"tcp Write 60000", 1320},
		{"tcp Read 64", 1300},
		{"tcp Read 60000", 1300},
		{"udp Write 64", 1000},
		{"udp Write 1400", 1100},
		{"udp Read 64", 1660},
		{"udp Read 1400", 1660},
	} {
		t.Logf("%-16s %4d bytes of stack, the kernel's %d", l.call, got[l.call], kernel[l.call])
		if n := got[l.call]; n == 0 || n > l.most {
			t.Errorf("%s uses %d bytes of stack, want at most %d", l.call, n, l.most)
		}
	}
}

// standStill sleeps a millisecond without letting another goroutine run, so that the
// kernel passes on what was written, and no reactor reads it. A Read that finds
// nothing would go deeper, and sleep.
func standStill() {
	ms := unix.Timespec{Nsec: 1e6}
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ms)), 0, 0)
}

// stackUses measures calls from client to server, named by network, method and
// bytes.
func stackUses(t *testing.T, client, server host, addr string) map[string]int {
	t.Helper()
	ln, err := server.Listen("tcp", addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := client.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	u, err := server.ListenPacket("udp", addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	v, err := client.Dial("udp", u.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	uses := map[string]int{}
	for _, x := range []struct {
		network string
		w, r    net.Conn
		sizes   []int
	}{
		{"tcp", c, d, []int{64, 1400, 60000}},
		{"udp", v, u.(net.Conn), []int{64, 1400}},
	} {
		for _, e := range []net.Conn{x.w, x.r} {
			if err := e.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range x.sizes {
			out, in := make([]byte, n), make([]byte, n)
			left := 0 // to be read of what was written
			write := func() {
				k, err := x.w.Write(out)
				if err != nil {
					t.Error(err)
				}
				left += k
			}
			drain := func() {
				if _, err := io.ReadFull(x.r, in[:left]); err != nil {
					t.Error(err)
				}
				left = 0
			}
			uses[fmt.Sprint(x.network, " Write ", n)] = stackuse.Of(drain, write)
			uses[fmt.Sprint(x.network, " Read ", n)] = stackuse.Of(func() { drain(); write(); standStill() }, func() {
				k, err := x.r.Read(in)
				if err != nil {
					t.Error(err)
				}
				left -= k
			})
			drain()
		}
	}
	return uses
}
