package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker"
	"github.com/onload-go/onload/internal/broker/policy"
	"github.com/onload-go/onload/internal/lab"
)

// links counts the interfaces of A.
func (w *network) links() int {
	w.t.Helper()
	l, err := w.A.Netlink().LinkList()
	must(w.t, err)
	return len(l)
}

// free reports whether a socket of the kernel's can be bound there.
func (w *network) free(proto string, a netip.AddrPort) bool {
	var err error
	if proto == "tcp" {
		l, e := w.A.Listen(proto, a.String())
		if err = e; err == nil {
			l.Close()
		}
	} else {
		c, e := w.A.ListenPacket(proto, a.String())
		if err = e; err == nil {
			c.Close()
		}
	}
	if err != nil && !errors.Is(err, unix.EADDRINUSE) {
		w.t.Fatal(err)
	}
	return err == nil
}

// TestKilledClient: of a process that is killed in traffic nothing is left, and its
// ports are the kernel's again.
func TestKilledClient(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	before := w.links()
	tcp, udp := w.at(7000)[0], w.at(7001)[0]
	for range 3 {
		p := w.start("nobody")
		p.line()
		p.want("broker "+tcp.String(), "listen tcp %v", tcp)
		p.want("broker "+udp.String(), "listen udp %v", udp)
		if w.links() <= before {
			t.Error("there is no link")
		}
		if w.free("tcp", tcp) || w.free("udp", udp) {
			t.Error("others can have the process's ports")
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				_ = echo(w.B, "tcp", tcp, 10)
			}
		}()
		must(t, echo(w.B, "tcp", tcp, 10))
		must(t, echo(w.B, "udp", udp, 10))
		must(t, p.Process.Kill())
		await(t, "the link goes", func() bool { return w.links() == before })
		await(t, "the ports are free", func() bool { return w.free("tcp", tcp) && w.free("udp", udp) })
		stop()
		<-done
		if err := echo(w.B, "tcp", tcp, 1); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the port of a dead process: %v", err)
		}
	}
}

// TestRestartedBroker: connections and listeners of clients go on while a broker ends and
// the next one begins, and are as safe as before.
func TestRestartedBroker(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	echoServers(t, w.B, w.B.Addr4, 9000)
	p := w.start("nobody")
	p.line()
	at := w.at(7000)[0]
	p.want("broker "+at.String(), "listen tcp %v", at)
	p.want("broker", "open tcp %v:9000", w.B.Addr4)
	c, err := w.B.Dial("tcp", at.String())
	must(t, err)
	defer c.Close()
	for range 3 {
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			var err error
			for err == nil && ctx.Err() == nil {
				err = echoOver(c, 10)
			}
			done <- err
		}()
		w.end(false)
		p.want("ok", "over 100") // there is no broker
		if err := echo(w.B, "tcp", at, 10); err != nil {
			t.Error("while there is no broker:", err)
		}
		w.begin()
		p.want("ok", "over 100")
		// A new port is a question to the new broker, behind those of before.
		udp := w.at(7001)[0]
		p.want("broker "+udp.String(), "listen udp %v", udp)
		must(t, echo(w.B, "udp", udp, 10))
		if w.free("tcp", at) {
			t.Error("others can have the client's port")
		}
		p.want("ok", "over 100")
		stop()
		if err := <-done; err != nil {
			t.Error("a connection of before:", err)
		}
		p.want("ok", "close")
	}
}

// TestKilledBroker: as TestRestartedBroker, for a broker that is killed.
func TestKilledBroker(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	w.end(true)
	start := func() *process {
		b := w.startRoot("broker", "TEST_BROKER_DIR="+w.dir, "TEST_BROKER_IF="+w.A.If)
		if s := b.line(); s != "serving" {
			t.Fatal(s)
		}
		return b
	}
	b := start()
	p := w.start("nobody")
	p.line()
	at := w.at(7000)[0]
	p.want("broker "+at.String(), "listen tcp %v", at)
	c, err := w.B.Dial("tcp", at.String())
	must(t, err)
	defer c.Close()
	for range 3 {
		must(t, echoOver(c, 100))
		must(t, b.Process.Kill())
		_ = b.Wait()
		must(t, echoOver(c, 100))
		must(t, echo(w.B, "tcp", at, 10))
		b = start()
		must(t, echoOver(c, 100))
		await(t, "the port is held", func() bool { return !w.free("tcp", at) })
	}
	// A client that dies while there is no broker leaves nothing to the next one.
	must(t, b.Process.Kill())
	_ = b.Wait()
	must(t, p.Process.Kill())
	_ = p.Wait()
	b = start()
	await(t, "the dead client's port is free", func() bool { return w.free("tcp", at) })
	await(t, "its link is gone", func() bool { return w.links() == 2 }) // lo, and A's end of the pair
	if err := echo(w.B, "tcp", at, 1); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the port of a dead process: %v", err)
	}
	must(t, b.Process.Signal(unix.SIGINT))
	must(t, b.Wait())
}

// brokerChild is a broker as a process of its own, until it is killed, or SIGINT has it
// remove everything.
func brokerChild() error {
	dir := os.Getenv("TEST_BROKER_DIR")
	p, err := policy.Parse([]byte(everybody))
	if err != nil {
		return err
	}
	b, err := broker.Open(broker.Config{
		Socket: filepath.Join(dir, "run", "broker.sock"), PinDir: filepath.Join(dir, "pins"),
		Interfaces: []string{os.Getenv("TEST_BROKER_IF")}, Policy: p,
	})
	if err != nil {
		return err
	}
	ctx, stop := signalContext()
	defer stop()
	fmt.Println("serving")
	return errors.Join(b.Serve(ctx), b.Close())
}

// TestRefusedByPolicy: what the policy refuses, the kernel carries.
func TestRefusedByPolicy(t *testing.T) {
	w := newNetwork(t, lab.Options{}, "[[allow]]\nusers=[65534]\ninterfaces=[\"*\"]\nports=[\"tcp 7000\"]\nmax-ports=1\n")
	p := w.start("nobody")
	p.line()
	for _, x := range []struct {
		proto string
		port  uint16
		how   string
	}{{"tcp", 7001, "kernel:"}, {"tcp", 7000, "broker"}, {"udp", 7000, ""}} {
		at := w.at(x.port)[0]
		if got := p.ask("listen %s %v", x.proto, at); !strings.HasPrefix(got, x.how) {
			t.Errorf("%v: %s", x, got)
		}
		if err := echo(w.B, x.proto, at, 10); err != nil {
			t.Errorf("%v: %v", x, err)
		}
	}
	t.Run("another user", func(t *testing.T) {
		p := w.startRoot("root", "ONLOAD_FALLBACK=on")
		p.line()
		at := w.at(7100)[0]
		if got := p.ask("listen tcp %v", at); !strings.HasPrefix(got, "kernel:") {
			t.Error(got)
		}
		if err := echo(w.B, "tcp", at, 10); err != nil {
			t.Error(err)
		}
	})
}

// TestListenAgain: a listener closes while connections of its port live. Clients are refused,
// also those of this host, the connections go on, and the process can listen there again.
func TestListenAgain(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	p := w.start("nobody")
	p.line()
	for _, at := range w.at(7000) {
		p.want("broker "+at.String(), "listen tcp %v", at)
		c, err := w.B.Dial("tcp", at.String())
		must(t, err)
		defer c.Close()
		must(t, echoOver(c, 10))
		for range 3 {
			p.want("ok", "close")
			for _, from := range []*lab.NS{w.A, w.B} {
				if err := echo(from, "tcp", at, 1); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s: after close: %v", from.Name, err)
				}
			}
			must(t, echoOver(c, 10))
			if w.free("tcp", at) {
				t.Error("others can have the port")
			}
			p.want("broker "+at.String(), "listen tcp %v", at)
			if w.free("tcp", at) {
				t.Error("others can have the port again")
			}
			must(t, echo(w.B, "tcp", at, 10))
			must(t, echo(w.A, "tcp", at, 10))
			must(t, echoOver(c, 10))
		}
	}
}

// TestManyOnOneInterface: several processes, of different users, share an interface under
// load.
func TestManyOnOneInterface(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	all := []*process{w.start("nobody"), w.start("nobody"), w.start("nobody"), w.startRoot("root")}
	errs := make(chan error, 2*len(all))
	for i, p := range all {
		p.line()
		at := w.at(uint16(7000 + i))[i%2]
		p.want("broker "+at.String(), "listen tcp %v", at)
		p.want("broker "+at.String(), "listen udp %v", at)
		for _, proto := range []string{"tcp", "udp"} {
			go func() {
				var err error
				for end := time.Now().Add(300 * time.Millisecond); err == nil && time.Now().Before(end); {
					err = echo(w.B, proto, at, 50)
				}
				errs <- err
			}()
		}
	}
	for range 2 * len(all) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
