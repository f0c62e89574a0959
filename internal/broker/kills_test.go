package broker_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
)

var kills = flag.Int("kills", 500, "processes that TestKills kills, with -long")

// victims are a broker and a client of its, with connections from and to B.
type victims struct {
	w        *network
	sink     net.Listener // B's, for the client's connection
	broker   *process
	client   *process
	at       netip.AddrPort
	accepted net.Conn // B's end of a connection that the client has accepted
	dialled  net.Conn // B's end of one that it has dialled
}

func (v *victims) startBroker() {
	v.broker = v.w.startRoot("broker", "TEST_BROKER_DIR="+v.w.dir, "TEST_BROKER_IF="+v.w.A.If)
	if s := v.broker.line(); s != "serving" {
		v.w.t.Fatal(s)
	}
}

func (v *victims) startClient() {
	t := v.w.t
	v.client = v.w.start("nobody")
	v.client.line()
	v.client.want("broker "+v.at.String(), "listen tcp %v", v.at)
	v.client.want("broker", "open tcp %v", v.sink.Addr())
	var err error
	v.dialled, err = v.sink.Accept()
	must(t, err)
	v.accepted, err = v.w.B.Dial("tcp", v.at.String())
	must(t, err)
	must(t, echoOver(v.accepted, 1))
}

// end kills a process and forgets it.
func end(p *process) {
	_ = p.Process.Kill()
	_ = p.Wait()
}

// told waits until both peers of the client have heard that it has ended, one of them by
// its traffic, and returns how long that took.
func (v *victims) told(since time.Time, traffic <-chan error) time.Duration {
	must(v.w.t, v.dialled.SetReadDeadline(time.Now().Add(patience)))
	_, idle := io.Copy(io.Discard, v.dialled)
	busy := <-traffic
	d := time.Since(since)
	if !errors.Is(idle, syscall.ECONNRESET) || !errors.Is(busy, syscall.ECONNRESET) {
		v.w.t.Errorf("the peers of a client that was killed: idle %v, busy %v", idle, busy)
	}
	v.dialled.Close()
	v.accepted.Close()
	return d
}

// TestKills kills client, broker or both in the middle of traffic. Peers of a dead client
// learn, connections over a dead broker go on, and at the end nothing is left.
func TestKills(t *testing.T) {
	if !testlong.Enabled() {
		t.Skip("a second for each of 500 kills: -long. TestKilledClient and TestKilledBroker are its short forms")
	}
	w := newNetwork(t, lab.Options{}, everybody)
	w.end(true)
	before := w.links()
	l, err := w.B.Listen("tcp", netip.AddrPortFrom(w.B.Addr4, 0).String())
	must(t, err)
	defer l.Close()
	v := &victims{w: w, sink: l, at: w.at(7000)[0]}
	v.startBroker()
	v.startClient()
	var told []time.Duration
	counts := map[string]int{}
	for i := range *kills {
		ctx, stop := context.WithCancel(context.Background())
		traffic := make(chan error, 1)
		go func() {
			var err error
			for err == nil && ctx.Err() == nil {
				err = echoOver(v.accepted, 10)
			}
			traffic <- err
		}()
		time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
		kind := []string{"client", "client", "broker", "both"}[rand.IntN(4)]
		counts[kind]++
		switch kind {
		case "client":
			start := time.Now()
			end(v.client)
			told = append(told, v.told(start, traffic))
			v.startClient()
		case "broker":
			end(v.broker)
			must(t, echo(w.B, "tcp", v.at, 3)) // a new connection, while there is none
			v.startBroker()
			stop()
			if err := <-traffic; err != nil {
				t.Fatalf("kill %d: a connection over a broker that was killed: %v", i, err)
			}
			udp := w.at(7001)[0] // a question to the next broker, behind those of before
			v.client.want("broker "+udp.String(), "listen udp %v", udp)
			v.client.want("ok", "close")
		case "both":
			// Nobody is left that tells peers. Those that send hear from the kernel.
			first, second := v.client, v.broker
			if i%2 == 0 {
				first, second = second, first
			}
			_ = first.Process.Kill()
			end(second)
			end(first)
			stop()
			<-traffic
			for _, c := range []net.Conn{v.accepted, v.dialled} {
				await(t, "a peer that sends is reset", func() bool {
					_, err := c.Write([]byte{1})
					return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
				})
				c.Close()
			}
			v.startBroker()
			await(t, "the dead client's port is free", func() bool { return w.free("tcp", v.at) })
			v.startClient()
		}
		stop()
	}
	end(v.client)
	must(t, v.broker.Process.Signal(unix.SIGINT))
	must(t, v.broker.Wait())
	await(t, "links go", func() bool { return w.links() == before })
	if !w.free("tcp", v.at) {
		t.Error("the client's port is taken")
	}
	if _, err := os.Stat(filepath.Join(w.dir, "pins", w.A.If)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins: %v", err)
	}
	if k, err := w.A.Netlink().LinkByName(w.A.If); err != nil || k.Attrs().Xdp != nil && k.Attrs().Xdp.Attached {
		t.Errorf("the interface has a program: %v", err)
	}
	if err := echo(w.B, "tcp", v.at, 1); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the port of a dead process: %v", err)
	}
	if len(told) > 0 {
		slices.Sort(told)
		late := len(told) - slices.IndexFunc(append(told, time.Hour), func(d time.Duration) bool { return d > 200*time.Millisecond })
		t.Logf("kills %v; peers of %d clients told after %v median, %v at last, %d of them after more than 200 ms", counts, len(told), told[len(told)/2], told[len(told)-1], late)
	}
}
