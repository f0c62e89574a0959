package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// needTool returns the path of a program. Without it the test is skipped, or
// fails with CI=true in the environment: there, nothing may be skipped.
func needTool(t testing.TB, name string) string {
	t.Helper()
	lab.NeedRoot(t)
	for _, try := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(try); err == nil {
			return path
		}
	}
	need.Missing(t, "%s, which is not installed (see .ci/run)", name)
	return ""
}

// run runs a program in ns, within limit, and returns what it wrote to
// standard output.
func run(t testing.TB, ns *lab.NS, limit time.Duration, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := ns.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// daemon starts a server in ns, in the foreground, and waits until it answers
// at address. It ends with the test.
func daemon(t testing.TB, ns *lab.NS, address, name string, args ...string) {
	t.Helper()
	c := ns.Command(name, args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", name, out.Bytes())
		}
	})
	settled(t, hung, func() error {
		k, err := ns.Dial("tcp", address)
		if err == nil {
			k.Close()
		}
		return err
	})
}

// content is n bytes that depend on n alone.
func content(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

func hexSum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// contentSizes are around the limits of segments, frames and buffers.
var contentSizes = []int{0, 1, 1448, 4096, 65537, 1 << 20, 10 << 20}

// website serves content of any size, and answers uploads with their hash.
func website(t testing.TB, l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{size}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("size"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(n))
		_, _ = w.Write(content(n))
	})
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			t.Error("upload: ", err)
		}
		fmt.Fprintf(w, "%x", h.Sum(nil))
	})
	s := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
}

// TestCurl: curl, as it comes, against net/http over onload.
func TestCurl(t *testing.T) {
	curl := needTool(t, "curl")
	pair := lab.NewPair(t, lab.Options{})
	e := engine(t, pair.B)
	calm(t, e, pair.A, pair.B)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			l := listenOn(t, e, f.addr(pair.B))
			website(t, l)
			url := "http://" + l.Addr().String() + "/"
			dir := t.TempDir()
			args := []string{"-gsS", "--fail", "--max-time", "100", "-w", "%{num_connects} %{time_connect}\n"}
			for _, n := range contentSizes {
				args = append(args, "-o", filepath.Join(dir, strconv.Itoa(n)), url+strconv.Itoa(n))
			}
			connects := 0
			for line := range strings.Lines(run(t, pair.A, 2*time.Minute, curl, args...)) {
				var n int
				var took float64
				if _, err := fmt.Sscan(line, &n, &took); err != nil {
					t.Fatal(line, err)
				}
				if connects += n; took > 0.5 {
					t.Logf("connecting took %v s", took) // calm counts the SYNs that were lost
				}
			}
			if connects != 1 {
				t.Errorf("%d connections for %d requests, want one kept alive", connects, len(contentSizes))
			}
			for _, n := range contentSizes {
				if b, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(n))); err != nil {
					t.Error(err)
				} else if !bytes.Equal(b, content(n)) {
					t.Errorf("GET of %d bytes: something else came", n)
				}
				file := filepath.Join(dir, "upload")
				if err := os.WriteFile(file, content(n), 0o600); err != nil {
					t.Fatal(err)
				}
				sum := run(t, pair.A, 2*time.Minute, curl, "-gsS", "--fail", "--max-time", "100", "--data-binary", "@"+file, url)
				if sum != hexSum(content(n)) {
					t.Errorf("POST of %d bytes: the server got something else", n)
				}
			}
		})
	}
}

// rate finds a number by re in a tool's output.
func rate(t testing.TB, out, re string) float64 {
	t.Helper()
	m := regexp.MustCompile(re).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no %s in:\n%s", re, out)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestWrk: wrk, as it comes, with many connections against net/http.
func TestWrk(t *testing.T) {
	wrk := needTool(t, "wrk")
	pair := lab.NewPair(t, lab.Options{})
	e := engine(t, pair.B)
	calm(t, e, pair.A, pair.B)
	l := listenOn(t, e, pair.B.Addr4)
	website(t, l)
	out := run(t, pair.A, 2*time.Minute, wrk, "-t2", "-c64", testlong.Pick("-d2s", "-d60s"), "--latency", "--timeout", "60s",
		"http://"+l.Addr().String()+"/128")
	if strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") {
		t.Error(out)
	}
	if rate(t, out, `Requests/sec:\s+([0-9.]+)`) == 0 {
		t.Error("no requests: ", out)
	}
	t.Log(out)
}

// TestRedisBenchmark: redis-benchmark, as it comes, against a server that
// knows what it asks.
func TestRedisBenchmark(t *testing.T) {
	tool := needTool(t, "redis-benchmark")
	pair := lab.NewPair(t, lab.Options{})
	e := engine(t, pair.B)
	calm(t, e, pair.A, pair.B)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			l := listenOn(t, e, f.addr(pair.B))
			serveRESP(t, l)
			host, port, _ := net.SplitHostPort(l.Addr().String())
			n := strconv.Itoa(testlong.Pick(20_000, 200_000))
			for _, pipeline := range []string{"1", "16"} {
				out := run(t, pair.A, testlong.Pick(3*time.Minute, 10*time.Minute), tool, "-h", host, "-p", port,
					"-t", "ping,set,get", "-n", n, "-c", "50", "-P", pipeline, "-q", "-d", "1000")
				for _, test := range []string{"PING_INLINE", "PING_MBULK", "SET", "GET"} {
					rate(t, out, test+`[^\n]*: ([0-9.]+) requests per second`)
				}
				t.Logf("pipeline %s:\n%s", pipeline, out[strings.LastIndexByte(out[:max(0, len(out)-500)], '\n')+1:])
			}
		})
	}
}

// TestNginx: net/http's client over onload against nginx over the kernel.
func TestNginx(t *testing.T) {
	nginx := needTool(t, "nginx")
	pair := lab.NewPair(t, lab.Options{})
	e := engine(t, pair.A)
	calm(t, e, pair.A, pair.B)
	dir := t.TempDir()
	for _, n := range contentSizes {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), content(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events { worker_connections 512; }
http {
	access_log off; root %[1]s;
	client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3; uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5;
	server { listen %[2]s:80; listen [%[3]s]:80; }
}`, dir, pair.B.Addr4, pair.B.Addr6)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon(t, pair.B, netip.AddrPortFrom(pair.B.Addr4, 80).String(), nginx, "-p", dir, "-e", "stderr", "-c", file)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			var dials atomic.Int32
			tr := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				dials.Add(1)
				start := time.Now()
				c, err := e.DialContext(ctx, network, address)
				if d := time.Since(start); d > time.Second/2 {
					t.Logf("connecting took %v", d) // calm counts the SYNs that were lost
				}
				if err == nil && !onload.PathOf(c).Accelerated {
					t.Error(onload.PathOf(c))
				}
				return c, err
			}}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr, Timeout: 60 * time.Second}
			url := "http://" + netip.AddrPortFrom(f.addr(pair.B), 80).String() + "/"
			get := func(n int) {
				r, err := client.Get(url + strconv.Itoa(n))
				if err != nil {
					t.Error(err)
					return
				}
				defer r.Body.Close()
				b, err := io.ReadAll(r.Body)
				if err != nil || r.StatusCode != http.StatusOK || !bytes.Equal(b, content(n)) {
					t.Errorf("GET of %d bytes: %s, %d came, %v", n, r.Status, len(b), err)
				}
			}
			for _, n := range contentSizes {
				get(n)
			}
			if n := dials.Load(); n != 1 {
				t.Errorf("%d connections one after the other, want one kept alive", n)
			}
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() { get(contentSizes[i%6]) })
			}
			wg.Wait()
		})
	}
}

// TestRedis: a pipelining client over onload against redis over the kernel.
func TestRedis(t *testing.T) {
	redis := needTool(t, "redis-server")
	pair := lab.NewPair(t, lab.Options{})
	e := engine(t, pair.A)
	calm(t, e, pair.A, pair.B)
	daemon(t, pair.B, netip.AddrPortFrom(pair.B.Addr4, 6379).String(), redis,
		"--bind", pair.B.Addr4.String(), pair.B.Addr6.String(), "--port", "6379", "--protected-mode", "no",
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", t.TempDir())
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			c, err := e.Dial("tcp", netip.AddrPortFrom(f.addr(pair.B), 6379).String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			start := time.Now()
			n := testlong.Pick(100_000, 2_000_000)
			if err := setAndGet(c, f.name, n); err != nil {
				t.Fatal(err)
			}
			t.Logf("%.0f commands a second", float64(2*n)/time.Since(start).Seconds())
		})
	}
}

// echoPackets sends every datagram back to where it came from.
func echoPackets(pc net.PacketConn) {
	b := make([]byte, 65536)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = pc.WriteTo(b[:n], from)
	}
}

type packetHost interface {
	host
	ListenPacket(network, address string) (net.PacketConn, error)
}

// TestQueries: questions and answers over UDP, as a resolver's, one after the
// other on a connected socket and from an unconnected one.
func TestQueries(t *testing.T) {
	each(t, lab.Options{MTU: 9000}, func(t *testing.T, d, ls host, addr netip.Addr) {
		server, err := ls.(packetHost).ListenPacket("udp", netip.AddrPortFrom(addr, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		go echoPackets(server)
		t.Run("connected", func(t *testing.T) {
			c, err := d.Dial("udp", server.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, n := range []int{0, 1, 17, 512, 1232, 1472, 4000, 8900} {
				ask(t, n, c.Write, c.Read, c)
			}
		})
		t.Run("unconnected", func(t *testing.T) {
			c, err := d.(packetHost).ListenPacket("udp", ":0")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			to := server.LocalAddr()
			for range 200 {
				ask(t, 100,
					func(b []byte) (int, error) { return c.WriteTo(b, to) },
					func(b []byte) (int, error) {
						n, from, err := c.ReadFrom(b)
						if err == nil && from.String() != to.String() {
							t.Errorf("the answer is from %v, want %v", from, to)
						}
						return n, err
					}, c)
			}
		})
	})
}

// TestLargeDatagrams: datagrams above the MTU cross in fragments.
func TestLargeDatagrams(t *testing.T) {
	each(t, lab.Options{}, func(t *testing.T, d, ls host, addr netip.Addr) {
		server, err := ls.(packetHost).ListenPacket("udp", netip.AddrPortFrom(addr, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		go echoPackets(server)
		c, err := d.Dial("udp", server.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		sizes := []int{1473, 2960, 4096, 9000, 30000, 65507}
		if addr.Is6() {
			sizes = append(sizes, 65527) // an IPv6 payload length does not count the header
		}
		for _, n := range sizes {
			ask(t, n, c.Write, c.Read, c)
		}
	})
}

// ask sends n bytes and waits for them to come back: nothing is lost between
// namespaces.
func ask(t testing.TB, n int, write, read func([]byte) (int, error), c interface{ SetReadDeadline(time.Time) error }) {
	t.Helper()
	q := content(n)
	b := make([]byte, 65536)
	start := time.Now()
	if _, err := write(q); err != nil {
		t.Fatalf("%d bytes: %v", n, err)
	}
	_ = c.SetReadDeadline(start.Add(hung))
	k, err := read(b)
	if err != nil {
		t.Fatalf("no answer to %d bytes: %v", n, err)
	}
	if !bytes.Equal(b[:k], q) {
		t.Fatalf("%d bytes came back for %d, or others", k, n)
	}
}
