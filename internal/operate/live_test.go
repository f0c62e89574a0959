package operate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/inspect/report"
	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// run runs a command of this package and returns what it printed.
func run(t *testing.T, args ...string) []byte {
	t.Helper()
	for _, c := range Commands() {
		if c.Name() != args[0] {
			continue
		}
		var out bytes.Buffer
		c.SetArgs(args[1:])
		c.SetOut(&out)
		c.SilenceUsage, c.SilenceErrors = true, true
		if err := c.Execute(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out.Bytes())
		}
		return out.Bytes()
	}
	t.Fatalf("no command %s", args[0])
	return nil
}

// runJSON runs a command with --json.
func runJSON[T any](t *testing.T, args ...string) *T {
	t.Helper()
	v := new(T)
	out := run(t, append(args, "--json")...)
	if err := json.Unmarshal(out, v); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	validate(t, args[0], out)
	return v
}

func self() string { return strconv.Itoa(os.Getpid()) }

// conversation is connections that have carried a request and an answer each.
type conversation struct {
	ln      net.Listener
	clients []net.Conn
	servers []net.Conn
}

const (
	requestLen = 100
	answerLen  = 3000
)

// converse opens n connections by dial to a listener, and has each carry a request and an
// answer.
func converse(t *testing.T, n int, ln net.Listener, dial func(network, address string) (net.Conn, error), address string) *conversation {
	t.Helper()
	c := &conversation{ln: ln}
	t.Cleanup(func() {
		for _, x := range append(c.clients, c.servers...) {
			_ = x.Close()
		}
		_ = ln.Close()
	})
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		client, err := dial("tcp", net.JoinHostPort(address, port))
		if err != nil {
			t.Fatal(err)
		}
		c.clients = append(c.clients, client)
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.servers = append(c.servers, server)
		limit := time.Now().Add(time.Minute)
		err = errors.Join(client.SetDeadline(limit), server.SetDeadline(limit))
		for _, way := range []struct {
			from, to net.Conn
			bytes    int
		}{{client, server, requestLen}, {server, client, answerLen}} {
			if err == nil {
				_, err = way.from.Write(make([]byte, way.bytes))
			}
			if err == nil {
				_, err = io.ReadFull(way.to, make([]byte, way.bytes))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// sentOnce is what was sent, without what a slow machine had sent again.
func sentOnce(i *report.TCPInfo) uint64 { return i.BytesSent - i.BytesRetrans }

// TestMemory: two engines of this process with a link in memory. What is printed is what
// the engines say, and has each connection once.
func TestMemory(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	a, b, err := onload.NewMemoryPair(
		onload.MemoryConfig{Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
		onload.MemoryConfig{Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = a.Close(), b.Close() }()
	ln, err := a.Listen("tcp", "10.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const n = 100
	c := converse(t, n, ln, b.Dial, "10.0.0.1")
	udp, err := a.ListenPacket("udp", "10.0.0.1:5353")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()

	ps := runJSON[ProcessList](t, "ps", "-p", self())
	if len(ps.Processes) != 1 || len(ps.Processes[0].Engines) != 2 {
		t.Fatalf("%+v", ps)
	}
	if s := ps.Processes[0].Engines[0].Sockets; s.TCP != n || s.Listeners != 1 || s.UDP != 1 {
		t.Errorf("engine a: %+v", s)
	}

	all := runJSON[SocketList](t, "ss", "-an", "--pid", self(), "path", "stack")
	seen := map[string]int{}
	for _, x := range all.Sockets {
		seen[x.Proto+" "+x.State]++
	}
	if want := (map[string]int{"tcp ESTAB": 2 * n, "tcp LISTEN": 1, "udp UNCONN": 1}); fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("%v, not %v", seen, want)
	}
	peer := c.clients[7].LocalAddr().(*net.TCPAddr)
	one := runJSON[SocketList](t, "ss", "-tn", "--pid", self(), "dport", "=", fmt.Sprint(peer.Port), "src", "10.0.0.1")
	if len(one.Sockets) != 1 {
		t.Fatalf("%d sockets of one", len(one.Sockets))
	}
	x := one.Sockets[0]
	if x.Peer != (report.End{Address: "10.0.0.2", Port: uint16(peer.Port)}) || x.Interface != "mem0" || x.Info.BytesReceived != requestLen || sentOnce(x.Info) != answerLen {
		t.Errorf("%+v, %+v", x.Socket, x.Info)
	}

	stats := runJSON[CounterList](t, "stat", "-p", self())
	counters := map[string]uint64{}
	for _, c := range stats.Processes[0].Sets[0].Counters {
		counters[c.Name] = c.Value
	}
	if own := a.Stats()["mem0"]; counters["TCPAccepts"] != own.TCPAccepts || counters["Conns"] != n || counters["TCP.PassiveOpens"] != n {
		t.Errorf("%v, %v", counters, own)
	}
	if text := run(t, "stat", "-p", self(), "TCPAccepts"); !strings.Contains(string(text), "TCPAccepts 100  TCP connections accepted\n") {
		t.Errorf("%s", text)
	}
}

// TestKernelPeer: over AF_XDP the sockets are those that the peer's kernel has, end for
// end, with its counts of bytes.
func TestKernelPeer(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e, err := onload.New(onload.Config{NetNS: p.A.Path, Interfaces: []string{p.A.If}, Frames: 4096, RingSize: 1024})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ln, err := e.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	const n = 20
	converse(t, n, ln, p.B.Dial, p.A.Addr4.String())
	got := runJSON[SocketList](t, "ss", "-tn", "--pid", self(), "path", "stack")
	var ours []string
	for _, x := range got.Sockets {
		if x.State != "ESTAB" || x.Interface != p.A.If {
			t.Errorf("%+v", x)
		}
		ours = append(ours, fmt.Sprintf("%s %s %d %d", endText("tcp", x.Peer, true), endText("tcp", x.Local, true), x.Info.BytesReceived, sentOnce(x.Info)))
	}
	var theirs []string
	inodes, err := socketInodes(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	err = p.B.Do(func() error {
		l, err := kernelSocketsHere(inodes)
		for _, x := range l {
			if x.State == "ESTAB" {
				theirs = append(theirs, fmt.Sprintf("%s %s %d %d", endText("tcp", x.Local, true), endText("tcp", x.Peer, true), sentOnce(x.Info), x.Info.BytesReceived))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	if len(ours) != n || !slices.Equal(ours, theirs) {
		t.Errorf("ours\n%s\nthe kernel's\n%s", strings.Join(ours, "\n"), strings.Join(theirs, "\n"))
	}
	checkWire(t, p, ln.Addr().(*net.TCPAddr).Port, n)
}

// checkWire compares queues, steering and routes of the process with what the test made.
func checkWire(t *testing.T, p *lab.Pair, port, conns int) {
	t.Helper()
	queues := runJSON[QueueList](t, "queues", "-p", self()).Processes[0].Queues
	if len(queues) != 1 || queues[0].Interface != p.A.If || queues[0].RxRing != 1024 || queues[0].RxFree > 1024 || queues[0].Counters["RxPackets"] < uint64(conns) {
		t.Errorf("%+v", queues)
	}
	steering := runJSON[SteeringList](t, "steer", "-p", self()).Processes[0].Interfaces
	var ports []string
	for _, e := range steering[0].Entries {
		if e.Peer == (report.End{}) {
			ports = append(ports, fmt.Sprintf("%s %s %d %s", e.Proto, e.Local.Address, e.Local.Port, e.Owner))
		}
	}
	slices.Sort(ports)
	if want := []string{fmt.Sprintf("tcp 0.0.0.0 %d stack", port), fmt.Sprintf("tcp :: %d stack", port)}; !slices.Equal(ports, want) {
		t.Errorf("ports %q, not %q", ports, want)
	}
	redirected := uint64(0)
	for _, d := range steering[0].Decisions {
		if d.Help == "" {
			t.Errorf("%s has no meaning", d.Name)
		}
		if d.Name == "Redirected" {
			redirected = d.Packets
		}
	}
	if redirected < queues[0].Counters["RxPackets"] {
		t.Errorf("%d packets were given to the queue, which received %d", redirected, queues[0].Counters["RxPackets"])
	}

	route := func() ComparedRoute {
		all := runJSON[RouteList](t, "routes", "-p", self()).Processes[0].Routes
		n := slices.IndexFunc(all, func(r ComparedRoute) bool { return r.Remote == p.B.Addr4.String() && r.Proto == "tcp" })
		if n < 0 {
			t.Fatalf("no route to %v in %+v", p.B.Addr4, all)
		}
		return all[n]
	}
	r := route()
	if r.Users != conns || r.Interface != p.A.If || r.MTU != 1500 || r.KernelSays == nil || len(r.Differs) > 0 {
		t.Errorf("%+v, %+v", r, r.KernelSays)
	}
	// What the stack would believe if it had not heard of a change.
	r.MTU, r.NextHop, r.Differs = 1400, "10.0.0.9", nil
	err := p.A.Do(func() error { r.compare(); return nil })
	if err != nil || !slices.Equal(r.Differs, []string{"next hop", "MTU"}) {
		t.Errorf("%v %q", err, r.Differs)
	}
}
