package operate

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/inspect/ask"
	"github.com/onload-go/onload/internal/inspect/report"
	onload "github.com/onload-go/onload/net"
)

// sampleTop is the n-th sample of a process with two connections, two seconds after the
// one before.
func sampleTop(n uint64) *topSample {
	busy, quiet := *sample("ESTAB", "10.0.0.1", 80, "10.1.2.3", 40000), *sample("ESTAB", "10.0.0.1", 80, "10.1.2.3", 40001)
	busy.Info = &report.TCPInfo{BytesReceived: 2000 * n, BytesSent: 3000000 * n, RTT: 1500 * time.Microsecond, Limit: "congestion window"}
	quiet.Info = &report.TCPInfo{BytesReceived: 7, BytesSent: 9, RTT: time.Millisecond, Limit: "idle"}
	ps := sampleProcesses().Processes[0]
	return &topSample{at: time.Date(2026, 1, 2, 3, 4, int(2*n), 0, time.UTC), processes: []topProcess{{
		status:  ps,
		sockets: []report.Socket{quiet, busy},
		sets: countedOf([]onload.TeamStats{{
			Interfaces: []string{"eth0"},
			Stats:      onload.Stats{SpinHits: 30 * n, SpinMisses: 10 * n, Parks: 4 * n, RxChecksum: 6 * n},
			Queues: []onload.QueueStats{
				{Interface: "eth0", Queue: 0, Stats: driver.Stats{RxPackets: 1000 * n, TxPackets: 500 * n, Kicks: 100 * n}},
				{Interface: "eth0", Queue: 1, Stats: driver.Stats{RxDropped: 2 * n}},
			},
		}}),
	}}}
}

// TestTop: a screen of fixed samples, on a terminal with room and on a small one.
func TestTop(t *testing.T) {
	lines := topLines(sampleTop(1), sampleTop(2))
	golden(t, "top.txt", []byte(strings.Join(lines, "\n")+"\n"))
	var b bytes.Buffer
	if err := drawTerminal(&b, lines, 6, 40); err != nil {
		t.Fatal(err)
	}
	golden(t, "top-small.txt", b.Bytes())
	if n := strings.Count(b.String(), "\r\n"); n != 5 {
		t.Errorf("%d lines scroll a terminal of 6", n)
	}
	// Counters of a process that was started anew begin at 0.
	for _, l := range topLines(sampleTop(2), sampleTop(1)) {
		if strings.Contains(l, "e+") || strings.Contains(l, "184467") {
			t.Error(l)
		}
	}
}

// TestSupport: the archive has what the commands print and, where that is wanted, no
// address.
func TestSupport(t *testing.T) {
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
	converse(t, 3, ln, b.Dial, "10.0.0.1")
	p, err := ask.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	hide, err := newAnonymiser(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []bool{false, true} {
		text := func(s string) string { return s }
		if hidden {
			text = hide.text
		}
		var out bytes.Buffer
		if err := writeSupport(&out, []*ask.Process{p}, time.Now(), 0, text); err != nil {
			t.Fatal(err)
		}
		files := untar(t, &out)
		for _, name := range []string{"ps", "ss", "stat", "stat-later", "queues", "steer", "routes"} {
			content := files["onload-support/"+name+".json"]
			if strings.Contains(content, "10.0.0.") == hidden && slices.Contains([]string{"ss", "routes"}, name) {
				t.Errorf("%s, hidden %v: %s", name, hidden, content)
			}
			command, _, _ := strings.Cut(name, "-")
			validate(t, command, []byte(content))
		}
		if e := files["onload-support/errors.txt"]; e != "" {
			t.Error(e)
		}
		var l SocketList
		if err := json.Unmarshal([]byte(files["onload-support/ss.json"]), &l); err != nil {
			t.Fatal(err)
		}
		ends := map[string]int{} // of connections: each address is on both sides
		for _, x := range l.Sockets {
			if x.State == "ESTAB" && x.Carrier == "stack" {
				ends[x.Local.Address]++
				ends[x.Peer.Address]++
			}
		}
		if len(ends) != 2 {
			t.Errorf("hidden %v: addresses %v", hidden, ends)
		}
	}
}

func untar(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(b)
	}
}
