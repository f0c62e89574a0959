package operate

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/inspect/report"
	onload "github.com/onload-go/onload/net"
	"github.com/onload-go/onload/tcp"
)

var update = flag.Bool("update", false, "write what is printed to testdata and docs/schema")

// golden compares what was printed with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: -update writes it anew; got\n%s\nwant\n%s", name, got, want)
	}
}

func sampleProcesses() ProcessList {
	return ProcessList{Processes: []ProcessStatus{
		{PID: 71, UID: 0, User: "root", Program: "server", Build: build{Onload: "v1.2.0", Go: "go1.26.1"}, Kernel: 3, Engines: []report.Engine{{
			Profile: "latency", Guardian: "self",
			Interfaces: []report.Interface{{Name: "eth0", Path: "eth0 (ice, native, zero-copy)"}, {Name: "eth1", Error: "no such device"}},
			Sockets:    report.Sockets{TCP: 1000, Listeners: 2, UDP: 1}, Memory: report.Memory{Bytes: 64 << 20, Frames: 16384, FrameSize: 4096},
		}}},
		{PID: 4711, UID: 1000, User: "alice", Program: "evil\x1b[2Jname", Build: build{}, Kernel: -1, Error: "process 4711: gone\nnow", Engines: []report.Engine{}},
	}}
}

func sampleSockets() []ProcessSocket {
	conn := *sample("ESTAB", "10.0.0.1", 80, "10.1.2.3", 40000)
	conn.Interface, conn.SendQ = "eth0", 1448
	conn.Timer = &report.Timer{Name: "on", Left: 200 * time.Millisecond, Tries: 1}
	conn.Memory = &report.Buffers{Receive: 1 << 20, Unsent: 10, Send: 1 << 20}
	conn.Info = &report.TCPInfo{
		Congestion: "cubic", SendMSS: 1448, RecvMSS: 536, PathMTU: 1500, SACK: true, Timestamps: true, SendScale: 7, RecvScale: 10,
		RTO: 204 * time.Millisecond, RTT: 1500 * time.Microsecond, RTTVar: 750 * time.Microsecond, MinRTT: time.Millisecond,
		Cwnd: 14480, Ssthresh: 1<<32 - 1, SendWindow: 65536, RecvWindow: 65535, InFlight: 1448, Reordering: 3, Retransmits: 1, TotalRetrans: 2,
		BytesSent: 5000, BytesRetrans: 1448, BytesAcked: 3000, BytesReceived: 70, SegsIn: 5, SegsOut: 6, SinceReceived: 2 * time.Second, Limit: "application",
	}
	listen := *sample("LISTEN", "*", 8080, "", 0)
	listen.Interface, listen.SendQ, listen.Half = "eth0,eth1", 4096, 2
	dgram := report.Socket{Proto: "udp", State: "UNCONN", Local: report.End{Address: "::", Port: 53}, Carrier: "kernel", Reason: besideStack}
	return []ProcessSocket{{71, 0, "server", conn}, {71, 0, "server", listen}, {71, 0, "ser\x1b]0;ver", dgram}}
}

// TestGolden: what is printed for people, of fixed values.
func TestGolden(t *testing.T) {
	var b bytes.Buffer
	if err := printProcesses(&b, sampleProcesses()); err != nil {
		t.Fatal(err)
	}
	golden(t, "ps.txt", b.Bytes())
	for name, o := range map[string]*ssOptions{
		"ss.txt":     {numeric: true},
		"ss-all.txt": {numeric: true, processes: true, info: true, timers: true, memory: true, extended: true},
		"ss-H.txt":   {numeric: true, noHeader: true},
	} {
		b.Reset()
		if err := printSockets(&b, o, sampleSockets()); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
	}
	b.Reset()
	p := statPrinter{out: &b, help: true}
	for i := range 2 {
		l := sampleCounters(uint64(i))
		if err := p.print(&l); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "stat.txt", b.Bytes())
}

// sampleCounters are those of the n-th time, two seconds after the one before.
func sampleCounters(n uint64) CounterList {
	return CounterList{
		Time: time.Date(2026, 1, 2, 3, 4, int(2*n), 0, time.UTC),
		Processes: []ProcessCounters{{71, "server", countedOf([]onload.TeamStats{{
			Interfaces: []string{"eth0", "eth1"},
			Stats:      onload.Stats{Polls: 100 + 10*n, Conns: 7, TCP: tcp.Stats{InSegs: tcp.Counter(5 * n)}},
			Queues:     []onload.QueueStats{{Interface: "eth0", Queue: 3, Stats: driver.Stats{RxPackets: 1000 + n}}},
		}})}},
	}
}
