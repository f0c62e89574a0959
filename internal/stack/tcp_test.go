package stack

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
)

func TestTCPEcho(t *testing.T) {
	for _, p := range []Profile{Balanced, Latency, Throughput} {
		for _, to := range []netip.Addr{addrB, six[addrB]} {
			t.Run(p.String()+"/"+to.String(), func(t *testing.T) {
				a, b := newPair(t, pairOptions{profile: p})
				c, s := connect(t, a, b, to)
				go func() {
					io.Copy(s, s)
					s.Close()
				}()
				buf := make([]byte, 1)
				for i := range 200 {
					if _, err := c.Write([]byte{byte(i)}); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(c, buf); err != nil || buf[0] != byte(i) {
						t.Fatal(i, buf, err)
					}
				}
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if n, err := c.Read(buf); n != 0 || err != io.EOF {
					t.Fatal(n, err)
				}
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

func TestTCPBulkBothWays(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	c, s := connect(t, a, b, addrB)
	const size = 16 << 20
	var wg sync.WaitGroup
	for i, ends := range [][2]*TCPConn{{c, s}, {s, c}} {
		data := make([]byte, size)
		r := rand.NewChaCha8([32]byte{byte(i)})
		r.Read(data)
		wg.Add(2)
		go func() {
			defer wg.Done()
			if n, err := io.Copy(ends[0], bytes.NewReader(data)); n != size || err != nil {
				t.Error(n, err)
			}
			ends[0].CloseWrite()
		}()
		go func() {
			defer wg.Done()
			h := sha256.New()
			if n, err := io.Copy(h, ends[1]); n != size || err != nil {
				t.Error(n, err)
			}
			if want := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), want[:]) {
				t.Error("received something else than was sent")
			}
		}()
	}
	wg.Wait()
	c.Close()
	s.Close()
}
