package stack

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/internal/lab"
)

// TestOffloadTransfer: a transfer between two stacks is whole in each pair of modes,
// with the offload and without it. The modes decide whether packets arrive as they were
// sent. With the offload a packet carries many segments.
func TestOffloadTransfer(t *testing.T) {
	modes := [][2]afxdp.Mode{
		{afxdp.ModeGeneric, afxdp.ModeGeneric}, {afxdp.ModeGeneric, afxdp.ModeNative}, {afxdp.ModeNative, afxdp.ModeGeneric},
	}
	for _, m := range modes {
		for _, mtu := range []int{1500, 9000} {
			for _, off := range []afxdp.Offloads{afxdp.OffloadsAuto, afxdp.OffloadsOff} {
				t.Run(fmt.Sprintf("%v-%v/%d/%d", m[0], m[1], mtu, off), func(t *testing.T) {
					p := lab.NewPair(t, lab.Options{MTU: mtu})
					a := vethStackWith(t, p.A, Balanced, afxdp.Config{Mode: m[0], Offloads: off})
					b := vethStackWith(t, p.B, Balanced, afxdp.Config{Mode: m[1], Offloads: off})
					for _, to := range []netip.Addr{p.B.Addr4, p.B.Addr6} {
						c, s := connect(t, a, b, to)
						oneWay(t, c, s, 4<<20)
						oneWay(t, s, c, 4<<20)
						c.Close()
						s.Close()
					}
					st := a.Stats().Queues[0]
					segments, packets := float64(st.TxBytes)/float64(mtu), float64(st.TxPackets)
					if large := segments/packets > 2; large != (off == afxdp.OffloadsAuto) {
						t.Errorf("%.0f packets for some %.0f segments", packets, segments)
					}
				})
			}
		}
	}
}

// oneWay sends size bytes from one end to the other.
func oneWay(t *testing.T, from, to *TCPConn, size int) {
	t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{2}).Read(data)
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		sent <- err
	}()
	h := sha256.New()
	if n, err := io.CopyN(h, to, int64(size)); err != nil {
		t.Fatalf("received %d of %d: %v", n, size, err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), want[:]) {
		t.Error("received something else than was sent")
	}
}
