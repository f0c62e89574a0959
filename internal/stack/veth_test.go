package stack

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/lab"
)

// vethStack makes a stack in ns.
func vethStack(t testing.TB, ns *lab.NS, p Profile, mode afxdp.Mode) *Stack {
	t.Helper()
	return vethStackWith(t, ns, p, afxdp.Config{Mode: mode})
}

func vethStackWith(t testing.TB, ns *lab.NS, p Profile, c afxdp.Config) *Stack {
	t.Helper()
	log := zaptest.NewLogger(t)
	c.Interface, c.InNS, c.Log = ns.If, ns.Do, log
	dev, err := afxdp.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	k, err := control.NewKernel(ns.Handle(), log)
	if err != nil {
		t.Fatal(err)
	}
	ports, err := control.NewKernelPorts(ns.Handle())
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Net: k, Ports: ports, Profile: p, Log: log}
	cfg.Over(ns.Index, dev)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		k.Close()
	})
	return s
}

// kernelPeers runs test for a stack at local and a kernel at remote over a veth,
// in all modes of the driver, with and without offloads, for both families.
func kernelPeers(t *testing.T, test func(t *testing.T, p *lab.Pair, s *Stack, local, remote netip.Addr)) {
	for i := range 16 {
		c, link, v6 := afxdp.Config{Mode: afxdp.ModeNative}, lab.Options{MTU: 1500}, i&1 != 0
		if i&2 != 0 {
			c.Mode = afxdp.ModeGeneric
		}
		if i&4 != 0 {
			c.Offloads = afxdp.OffloadsOff
		}
		if i&8 != 0 {
			// The peer then verifies what it gets, and sums what it sends.
			link.MTU, link.NoTxCsum = 9000, true
		}
		t.Run(fmt.Sprintf("%v/offloads%d/mtu%d/v6=%v", c.Mode, c.Offloads, link.MTU, v6), func(t *testing.T) {
			p := lab.NewPair(t, link)
			local, remote := p.A.Addr4, p.B.Addr4
			if v6 {
				local, remote = p.A.Addr6, p.B.Addr6
			}
			test(t, p, vethStackWith(t, p.A, Balanced, c), local, remote)
		})
	}
}

func TestKernelPeer(t *testing.T) {
	kernelPeers(t, func(t *testing.T, p *lab.Pair, s *Stack, local, remote netip.Addr) {
		t.Run("dial", func(t *testing.T) {
			l, err := p.B.Listen("tcp", netip.AddrPortFrom(remote, 5000).String())
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				k, err := l.Accept()
				if err == nil {
					io.Copy(k, k)
					k.Close()
				}
			}()
			c, err := s.DialTCP(t.Context(), netip.AddrPort{}, netip.AddrPortFrom(remote, 5000), nil)
			if err != nil {
				t.Fatal(err)
			}
			transfer(t, c, 8<<20)
		})
		t.Run("listen", func(t *testing.T) {
			l, err := s.ListenTCP(netip.AddrPortFrom(local, 0), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				c, _, err := l.Accept()
				if err == nil {
					io.Copy(c, c)
					c.Close()
				}
			}()
			k, err := p.B.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			transfer(t, k.(*net.TCPConn), 8<<20)
		})
	})
}

type halfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// transfer sends size bytes to an echoing peer and checks what comes back.
func transfer(t *testing.T, c halfCloser, size int) {
	t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(data)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		if n, err := c.Write(data); n != size || err != nil {
			t.Error(n, err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	h := sha256.New()
	if n, err := io.Copy(h, c); n != int64(size) || err != nil {
		t.Error(n, err)
	}
	if want := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), want[:]) {
		t.Error("received something else than was sent")
	}
	wg.Wait()
	c.Close()
}
