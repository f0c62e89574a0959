package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/need"
	onloadnet "github.com/onload-go/onload/net"
)

// recorded is a packet of a file.
type recorded struct {
	data    []byte
	out     bool
	comment string
	name    string // of the interface
}

// capturedDuring runs onload capture with these arguments, on this process, while f runs.
func capturedDuring(t *testing.T, args string, f func()) []recorded {
	t.Helper()
	file := filepath.Join(t.TempDir(), "out.pcapng")
	o, err := captureArgs(append([]string{"-p", fmt.Sprint(os.Getpid())}, strings.Fields(args)...))
	if err != nil {
		t.Fatal(err)
	}
	c, err := openCapture(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	var n uint64
	go func() {
		var err error
		n, err = c.run(ctx, out, o)
		ended <- err
	}()
	f()
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	all := readPcapng(t, file)
	if uint64(len(all)) != n || c.in.Lost() != 0 {
		t.Errorf("%d packets in the file, %d written, %d lost", len(all), n, c.in.Lost())
	}
	readByOthers(t, file, len(all))
	return all
}

func readPcapng(t *testing.T, file string) (all []recorded) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(bytes.NewReader(b), pcapgo.NgReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, ci, opt, err := r.ReadPacketDataWithOptions()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		l, err := r.Interface(ci.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		p := recorded{data: data, out: opt.Flags.Direction == pcapgo.NgEpbFlagDirectionOutbound, name: l.Name}
		p.comment = strings.Join(opt.Comments, "; ")
		all = append(all, p)
	}
}

// readByOthers has tcpdump read a file. tshark, which takes a second to start, reads the
// one of TestCaptureLoss, where it is installed.
func readByOthers(t *testing.T, file string, packets int) {
	t.Helper()
	for _, c := range [][]string{{"tcpdump", "-tnr", file}, {"tshark", "-nr", file}} {
		path, err := exec.LookPath(c[0])
		switch {
		case c[0] == "tshark" && (err != nil || t.Name() != "TestCaptureLoss" || testing.Short()):
			continue
		case err != nil:
			need.Missing(t, "tcpdump (apt-get install tcpdump)")
		}
		out, err := exec.Command(path, c[1:]...).Output()
		if n := bytes.Count(out, []byte("\n")); err != nil || n != packets {
			t.Errorf("%s shows %d packets of %d: %v", c[0], n, packets, err)
		}
	}
}

// tcpOf returns the addresses of a TCP segment and its layer; nil for others.
func tcpOf(p []byte) (src, dst netip.AddrPort, seg *layers.TCP) {
	pkt := gopacket.NewPacket(p, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	l, ok := pkt.TransportLayer().(*layers.TCP)
	if !ok {
		return
	}
	f := pkt.NetworkLayer().NetworkFlow()
	s, _ := netip.AddrFromSlice(f.Src().Raw())
	d, _ := netip.AddrFromSlice(f.Dst().Raw())
	return netip.AddrPortFrom(s, uint16(l.SrcPort)), netip.AddrPortFrom(d, uint16(l.DstPort)), l
}

// push sends n bytes over a new connection of dial's to ln, and reads them there.
func push(t *testing.T, n int, ln net.Listener, dial func(network, address string) (net.Conn, error)) {
	t.Helper()
	got := make(chan int64, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer c.Close()
		n, _ := io.Copy(io.Discard, c)
		got <- n
	}()
	c, err := dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if k := <-got; k != int64(n) {
		t.Fatalf("%d bytes of %d came", k, n)
	}
}

func memoryEngines(t *testing.T, loss float64) (a, b *onloadnet.Engine) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	m := onloadnet.MemoryConfig{Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}, Seed: 7}
	m.Faults.Loss = loss
	o := m
	o.Addrs = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}
	a, b, err := onloadnet.NewMemoryPair(m, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// During loss the file has each segment as it was sent, retransmissions too, and what came
// of them.
func TestCaptureLoss(t *testing.T) {
	a, b := memoryEngines(t, 0.03)
	ln, err := b.Listen("tcp", "192.0.2.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	retransmitted := func() uint64 { s := a.Stats()["mem0"].TCP; return s.RetransSegs.Load() }
	before := retransmitted()
	all := capturedDuring(t, "tcp and host 192.0.2.1", func() { push(t, 400_000, ln, a.Dial) })
	again := retransmitted() - before

	sent := map[string]int{}
	var next uint32
	repeated := uint64(0)
	for _, p := range all {
		src, _, seg := tcpOf(p.data)
		if seg == nil {
			t.Fatal("a packet that the filter does not let pass")
		}
		if src.Addr() != netip.MustParseAddr("192.0.2.1") {
			continue
		}
		if !p.out {
			if sent[string(p.data)]--; sent[string(p.data)] < 0 {
				t.Fatal("a segment came that was not sent")
			}
			continue
		}
		sent[string(p.data)]++
		n := uint32(len(seg.Payload))
		if seg.SYN || seg.FIN {
			n++
		}
		if n == 0 {
			continue
		}
		if end := seg.Seq + n; next == 0 || int32(end-next) > 0 {
			next = end
		} else {
			repeated++
		}
	}
	if again == 0 || repeated != again {
		t.Errorf("%d segments of the file were sent before, %d were sent again", repeated, again)
	}
}

// A filter is applied to each packet, a direction chosen, a packet cut; --no-match has
// what met no socket.
func TestCaptureChoice(t *testing.T) {
	a, b := memoryEngines(t, 0)
	ln, err := b.Listen("tcp", "192.0.2.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	for _, c := range []struct {
		args string
		want func(p *recorded, seg *layers.TCP) bool
	}{
		{"-Q in", func(p *recorded, _ *layers.TCP) bool { return !p.out }},
		{fmt.Sprint("-Q out tcp src port ", port), func(p *recorded, s *layers.TCP) bool { return p.out && int(s.SrcPort) == port }},
		{"-s 60 tcp[tcpflags] & tcp-syn != 0", func(p *recorded, _ *layers.TCP) bool { return p.data[47]&2 != 0 && len(p.data) <= 60 }},
		{"-i mem0 greater 1000", func(p *recorded, _ *layers.TCP) bool { return p.name == "mem0" && len(p.data) >= 1000 }},
	} {
		all := capturedDuring(t, c.args, func() { push(t, 100_000, ln, a.Dial) })
		for i := range all {
			_, _, seg := tcpOf(all[i].data)
			if !c.want(&all[i], seg) {
				t.Errorf("%s: a packet of %d bytes, out %v", c.args, len(all[i].data), all[i].out)
			}
		}
		if len(all) == 0 {
			t.Errorf("%s: no packet", c.args)
		}
	}

	all := capturedDuring(t, "--no-match", func() {
		push(t, 100_000, ln, a.Dial)
		if _, err := a.Dial("tcp", "192.0.2.2:9"); err == nil {
			t.Error("somebody answers at port 9")
		}
	})
	if len(all) != 1 || all[0].out || all[0].comment != "dropped: no socket" {
		t.Errorf("packets that met no socket: %+v", all)
	}

	for args, want := range map[string]string{
		"port http-nonsense": "filter", "-i mem0 inbound": "-Q", "-Q up": "neither", "-s -1": "range",
	} {
		o, err := captureArgs(append([]string{"-p", fmt.Sprint(os.Getpid())}, strings.Fields(args)...))
		if err == nil {
			_, err = openCapture(o)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("onload capture %s: %v", args, err)
		}
	}
}

// The file has the packets that tcpdump sees at a kernel peer: the same, in the same order,
// in each direction. tcpdump goes on for longer.
func TestCaptureVersusTcpdump(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	if _, err := exec.LookPath("tcpdump"); err != nil {
		need.Missing(t, "tcpdump (apt-get install tcpdump)")
	}
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	e, err := onloadnet.New(onloadnet.Config{NetNS: p.A.Path, Interfaces: []string{p.A.If}, Frames: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ln, err := p.B.Listen("tcp", net.JoinHostPort(p.B.Addr4.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	filter := fmt.Sprint("tcp port ", ln.Addr().(*net.TCPAddr).Port)
	file := filepath.Join(t.TempDir(), "peer.pcap")
	dump := p.B.Command("tcpdump", "-i", p.B.If, "--immediate-mode", "-U", "-B", "8192", "-Z", "root", "-w", file, filter)
	said, err := dump.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	defer dump.Wait()
	defer dump.Process.Kill()
	if err := until(said, "listening on"); err != nil {
		t.Fatal(err)
	}
	all := capturedDuring(t, filter, func() {
		for range 3 {
			push(t, 300_000, ln, e.Dial)
		}
	})
	var ours [2][]string
	for _, r := range all {
		ours[way(r.out)] = append(ours[way(r.out)], string(r.data))
	}
	var theirs [2][]string
	for end := time.Now().Add(time.Minute); (len(theirs[0]) < len(ours[0]) || len(theirs[1]) < len(ours[1])) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		theirs = readPcap(t, file, p.A.Addr4)
	}
	for i, direction := range []string{"in", "out"} {
		if len(ours[i]) == 0 || len(ours[i]) > len(theirs[i]) {
			t.Errorf("%s: %d packets, tcpdump has %d", direction, len(ours[i]), len(theirs[i]))
			continue
		}
		for k := range ours[i] {
			if ours[i][k] != theirs[i][k] {
				t.Errorf("%s: packet %d is another one than tcpdump's", direction, k)
				break
			}
		}
	}
}

func way(out bool) int {
	if out {
		return 1
	}
	return 0
}

// readPcap reads what tcpdump has written so far: packets to a and from a.
func readPcap(t *testing.T, file string, a netip.Addr) (ways [2][]string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil || len(b) < 24 {
		return ways
	}
	r, err := pcapgo.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, _, err := r.ReadPacketData()
		if err != nil {
			return ways // the last one may be half written
		}
		src := binary.BigEndian.Uint32(data[26:])
		four := a.As4()
		i := way(src == binary.BigEndian.Uint32(four[:]))
		ways[i] = append(ways[i], string(data))
	}
}

// until reads r up to a word, and on in the background.
func until(r io.Reader, word string) error {
	var seen []byte
	for b := make([]byte, 256); ; {
		n, err := r.Read(b)
		if seen = append(seen, b[:n]...); bytes.Contains(seen, []byte(word)) {
			go io.Copy(io.Discard, r)
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, seen)
		}
	}
}

// An interface that is made again while packets are captured is in the file too.
func TestCaptureLater(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	e, err := onloadnet.New(onloadnet.Config{NetNS: p.A.Path, Interfaces: []string{p.A.If}, Frames: 1024})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ln, err := p.B.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	address := net.JoinHostPort(p.B.Addr4.String(), fmt.Sprint(ln.Addr().(*net.TCPAddr).Port))
	o, err := captureArgs([]string{"-p", fmt.Sprint(os.Getpid()), "-c", "3", "-Q", "out", "tcp[tcpflags] & tcp-syn != 0"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := openCapture(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := p.A.Delete(); err != nil {
		t.Fatal(err)
	}
	if err := lab.Remake(p.A.Link, p.B.Link, lab.Options{}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	ended := make(chan uint64, 1)
	go func() {
		n, err := c.run(ctx, io.Discard, o)
		if err != nil {
			t.Error(err)
		}
		ended <- n
	}()
	for {
		if k, err := e.DialTimeout("tcp", address, time.Second); err == nil { // the kernel's until the interface is taken
			_ = k.Close()
		}
		select {
		case n := <-ended:
			if n != 3 {
				t.Errorf("%d packets of the interface that came", n)
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// The reasons of drops are those that the counters count, packet by packet.
func TestCaptureDrops(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	m := onloadnet.MemoryConfig{Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}, Seed: 3}
	m.Faults.Corrupt = 0.1
	o := m
	o.Addrs = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}
	a, b, err := onloadnet.NewMemoryPair(m, o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	ln, err := b.Listen("tcp", "192.0.2.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	counted := func() (n uint64) {
		for _, e := range []*onloadnet.Engine{a, b} {
			for _, s := range e.Stats() {
				n += s.RxChecksum
			}
		}
		return n
	}
	before := counted()
	var within uint64
	all := capturedDuring(t, "-Q in", func() {
		push(t, 200_000, ln, a.Dial)
		within = counted()
	})
	named := uint64(0)
	for _, p := range all {
		if p.comment == "dropped: wrong checksum" {
			named++
		}
	}
	// The connection may end after that.
	if named < within-before || named > counted()-before || named == 0 {
		t.Errorf("%d packets with a wrong checksum in the file, %d to %d counted", named, within-before, counted()-before)
	}
}
