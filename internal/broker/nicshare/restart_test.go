package nicshare

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// takerEnv makes the test binary a broker that takes the interface over, and waits for
// its end. Its value is the interface and the directory of pins.
const takerEnv = "ONLOAD_NICSHARE_TAKER"

func takeOver(what string) {
	name, pins, _ := strings.Cut(what, " ")
	n, err := Open(Config{Interface: name, PinDir: pins, MaxLinks: 16})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("links", len(n.Links()))
	select {}
}

// numbered builds a packet with a number.
func (w *network) numbered(t testing.TB, i uint32) packet {
	p := w.out(port, i%2 == 0)
	p.data = binary.BigEndian.AppendUint32(append([]byte(nil), payload...), i)
	return p
}

// number is that of a packet.
func number(frame []byte) uint32 { return binary.BigEndian.Uint32(frame[len(frame)-4:]) }

// exchange has the process and its peer send each other numbered packets until done is
// closed: none is lost, and none comes twice.
func (w *network) exchange(t *testing.T, p *process, peer *observer, done <-chan struct{}) (rounds int) {
	const window = ringSize / 4
	for next := uint32(0); ; rounds++ {
		select {
		case <-done:
			return rounds
		default:
		}
		var o order
		want := map[uint32]int{}
		for range window {
			k := w.numbered(t, next)
			o.Send = append(o.Send, k.build(t))
			w.send(t, k)
			want[next] = 2
			next++
		}
		o.Receive = window
		for _, f := range append(p.do(o), peer.wait(window)...) {
			want[number(f)]--
		}
		for i, left := range want {
			if left != 0 {
				t.Errorf("packet %d: %d missing", i, left)
			}
		}
	}
}

// While traffic flows, one broker after another takes the interface over. The last
// broker finds links, ports, flows and counters as the first left them.
func TestRestart(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			w := newNetwork(t)
			n, err := Open(w.config(mode))
			must(t, err)
			p := start(t, w.A, n, LinkConfig{Token: [16]byte{1, 2, 3}, GroupPriority: 7})
			w.allow(p, udp, port)
			flow := Flow{udp, w.out(port, false).src, w.out(port, false).dst}
			must(t, p.link.AllowFlow(flow))
			peer := observe(t, w.B)
			done := make(chan struct{})
			var restarts error
			go func() {
				defer close(done)
				for range 10 {
					if restarts = n.Detach(); restarts != nil {
						return
					}
					if n, restarts = Open(w.config(mode)); restarts != nil {
						return
					}
				}
			}()
			rounds := w.exchange(t, p, peer, done)
			must(t, restarts)
			t.Logf("%d rounds during 10 restarts", rounds)
			ls := n.Links()
			if len(ls) != 1 || ls[0].Token() != [16]byte{1, 2, 3} || !ls[0].Alive() {
				t.Fatalf("links %+v", ls)
			}
			ps, err := ls[0].Ports()
			if must(t, err); len(ps) != 2 {
				t.Errorf("ports %v", ps)
			}
			fs, err := ls[0].Flows()
			if must(t, err); len(fs) != 1 || fs[0] != flow {
				t.Errorf("flows %v", fs)
			}
			c, err := ls[0].Counters()
			if must(t, err); c.Sent != uint64(rounds*ringSize/4) || c.Dropped() != 0 {
				t.Errorf("%d rounds, counted %+v", rounds, c)
			}
			must(t, ls[0].Revoke(ps...))
			must(t, n.Close())
			w.nothingLeft(t)
		})
	}
}

// A broker that is killed leaves links that carry on, and pins for the next one.
func TestBrokerKilled(t *testing.T) {
	w := newNetwork(t)
	n, err := Open(w.config(ModeGeneric))
	must(t, err)
	p := start(t, w.A, n, LinkConfig{})
	w.allow(p, udp, port)
	peer := observe(t, w.B)
	must(t, n.Detach())
	for range 3 {
		self, err := os.Executable()
		must(t, err)
		c := w.A.Command(self)
		c.Env = append(os.Environ(), takerEnv+"="+w.A.If+" "+w.pins)
		out, err := c.StdoutPipe()
		must(t, err)
		must(t, c.Start())
		said := make([]byte, 200)
		m, _ := out.Read(said)
		if string(said[:m]) != "links 1\n" {
			t.Errorf("the next broker: %s", said[:m])
		}
		if _, err := Open(w.config(ModeGeneric)); err == nil {
			t.Error("two brokers at a time")
		}
		must(t, c.Process.Kill())
		_ = c.Wait()
		w.exchangeOnce(t, p, peer)
	}
	n, err = Open(w.config(ModeGeneric))
	must(t, err)
	must(t, n.Close())
	w.nothingLeft(t)
}

// exchangeOnce is one round of exchange.
func (w *network) exchangeOnce(t *testing.T, p *process, peer *observer) {
	t.Helper()
	out := w.out(port, false)
	p.do(order{Send: [][]byte{out.build(t)}})
	peer.wait(1)
	w.send(t, out)
	p.do(order{Receive: 1})
}

// nothingLeft checks that the interface is as it was.
func (w *network) nothingLeft(t *testing.T) {
	t.Helper()
	all, err := w.A.Netlink().LinkList()
	must(t, err)
	for _, k := range all {
		if strings.HasPrefix(k.Attrs().Name, "onl") {
			t.Errorf("link %s is left", k.Attrs().Name)
		}
		if x := k.Attrs().Xdp; x != nil && x.Attached {
			t.Errorf("%s has a program", k.Attrs().Name)
		}
	}
	if _, err := os.Stat(filepath.Join(w.pins, w.A.If)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins: %v", err)
	}
}

// The kernel removes the link of a killed process by itself. Its port is free when the
// broker has closed it, and so is its ID.
func TestProcessKilled(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	for range 5 {
		p := start(t, w.A, n, LinkConfig{})
		w.allow(p, udp, port)
		if id := p.link.ID(); id != 0 {
			t.Errorf("ID %d", id)
		}
		p.kill()
		await(t, "the link goes", func() bool { return !p.link.Alive() })
		must(t, p.link.Close())
	}
	p := start(t, w.A, n, LinkConfig{})
	w.allow(p, udp, port)
	peer := observe(t, w.B)
	w.exchangeOnce(t, p, peer)
	p.kill()
	await(t, "the link goes", func() bool { return !p.link.Alive() })
	must(t, n.Detach())
	n, err := Open(w.config(ModeGeneric))
	must(t, err)
	if ls := n.Links(); len(ls) != 0 {
		t.Errorf("links %v", ls)
	}
	l, err := n.NewLink(LinkConfig{})
	must(t, err)
	must(t, l.Allow(Port{udp, w.A.Addr4, port}))
	must(t, n.Close())
	w.nothingLeft(t)
}

// Links whose pins are gone are removed: nobody could steer or filter for them.
func TestOrphan(t *testing.T) {
	w := newNetwork(t)
	n, err := Open(w.config(ModeGeneric))
	must(t, err)
	start(t, w.A, n, LinkConfig{})
	must(t, n.Detach())
	must(t, unix.Unmount(w.pins, unix.MNT_DETACH))
	n, err = Open(w.config(ModeGeneric))
	must(t, err)
	if ls := n.Links(); len(ls) != 0 {
		t.Errorf("links %v", ls)
	}
	must(t, n.Close())
	w.nothingLeft(t)
}
