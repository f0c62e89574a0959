package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/onload-go/onload/internal/need"
)

// releases are the programs of TestReleased and the other tests of released programs.
var releases = []*release{
	{
		name:    "nats-server",
		modules: []string{".=github.com/nats-io/nats-server/v2@v2.15.3"},
		build:   []string{"nats-server=. ."},
		command: runs("$BIN/nats-server", "-a", "0.0.0.0", "-p", "4222"),
		ready:   "Server is ready",
		uses:    []use{client("messages", "nats", "nats://$A:4222"), client("IPv6", "nats", "nats://[$6]:4222")},
	},
	{
		name:    "gRPC",
		modules: []string{".=google.golang.org/grpc@v1.85.0"},
		build:   []string{"grpc-server=. ./interop/server", "grpc-client=. ./interop/client"},
		command: func(s *served) (args, env []string) {
			return []string{filepath.Join(s.programs, "grpc-server"), "-port=10000"}, []string{"GRPC_GO_LOG_SEVERITY_LEVEL=info"}
		},
		ready: "listening on",
		uses: []use{grpcCase("empty_unary"), grpcCase("large_unary"), grpcCase("client_streaming"), grpcCase("server_streaming"),
			grpcCase("ping_pong"), grpcCase("cancel_after_first_response")},
	},
	{
		name:    "Caddy",
		modules: []string{".=github.com/caddyserver/caddy/v2@v2.11.9"},
		build:   []string{"caddy=. ./cmd/caddy"},
		command: caddy,
		ready:   "serving initial configuration",
		settled: "https://$A/name", // the certificate is made later
		metrics: "127.0.0.1:2019/metrics",
		uses: []use{
			client("HTTP/1.1", "http1", "-file", "$DIR/site/small", "http://$A/small"),
			client("HTTP/1.1 over IPv6", "http1", "-file", "$DIR/site/small", "http://[$6]/small"),
			client("HTTP/1.1, 1 MiB", "http1", "-file", "$DIR/site/large", "http://$A/large"),
			client("HTTP/2", "http2", "-file", "$DIR/site/small", "https://$A/small"),
			client("HTTP/2, 1 MiB", "http2", "-file", "$DIR/site/large", "https://$A/large"),
			quicGo("HTTP/3", "-file", "$DIR/site/small", "https://$A/small"),
			quicGo("HTTP/3, 1 MiB", "-file", "$DIR/site/large", "https://$A/large"),
			client("reverse proxy", "http2", "-file", "$DIR/site/small", "https://$A/up/small"),
		},
	},
	{
		name:    "CoreDNS",
		modules: []string{".=github.com/coredns/coredns@v1.15.0"},
		build:   []string{"coredns=. ."},
		command: coreDNS,
		ready:   "CoreDNS-",
		metrics: "127.0.0.1:9153/metrics",
		uses: []use{
			client("UDP", "dns-udp", "$A:53/www.example.org/192.0.2.1"),
			client("UDP over IPv6", "dns-udp", "[$6]:53/www.example.org/192.0.2.1"),
			client("TCP", "dns-tcp", "$A:53/www.example.org/192.0.2.1"),
			recvErr(client("forwarded", "dns-udp", "$A:53/up.example/192.0.2.2")),
		},
	},
	{
		name: "etcd",
		modules: []string{".=go.etcd.io/etcd/v3@v3.6.8", "api=go.etcd.io/etcd/api/v3@v3.6.8", "client/pkg=go.etcd.io/etcd/client/pkg/v3@v3.6.8",
			"client/v3=go.etcd.io/etcd/client/v3@v3.6.8", "pkg=go.etcd.io/etcd/pkg/v3@v3.6.8", "server=go.etcd.io/etcd/server/v3@v3.6.8",
			"etcdctl=go.etcd.io/etcd/etcdctl/v3@v3.6.8", "etcdutl=go.etcd.io/etcd/etcdutl/v3@v3.6.8", "tests=go.etcd.io/etcd/tests/v3@v3.6.8"},
		build: []string{"etcd=server .", "benchmark=. ./tools/benchmark"},
		command: runs("$BIN/etcd", "--data-dir", "$DIR/data", "--listen-client-urls", "http://0.0.0.0:2379", "--advertise-client-urls", "http://$A:2379",
			"--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync", "--auto-compaction-mode=revision", "--auto-compaction-retention=1000"),
		ready:   "ready to serve client requests",
		own:     20,
		metrics: "127.0.0.1:2379/metrics",
		uses:    []use{etcdBenchmark("put", "--val-size=256", "--key-space-size=1000"), etcdBenchmark("range", "key"), etcdBenchmark("txn-put")},
	},
	{
		name:    "websocket",
		modules: []string{".=github.com/gorilla/websocket@v1.5.3"},
		build:   []string{"autobahn=. ./examples/autobahn"},
		command: runs("$BIN/autobahn", "-addr", ":9000"),
		port:    "9000",
		uses: []use{
			client("messages", "websocket", "ws://$A:9000/m"),
			client("copied", "websocket", "ws://$A:9000/c"),
			client("IPv6", "websocket", "ws://[$6]:9000/f"),
		},
	},
	{
		name:    "go-redis",
		client:  true,
		command: runs("redis-server", "--bind", "$A", "--port", "6379", "--save", "", "--protected-mode", "no", "--dir", "$DIR"),
		ready:   "Ready to accept connections",
		uses:    []use{client("all", "redis", "$A:6379")},
	},
	{
		name:    "pgx",
		client:  true,
		user:    nobody,
		command: postgres,
		ready:   "ready to accept connections",
		uses:    []use{client("all", "postgres", "postgres://nobody@$A/postgres?sslmode=disable")},
	},
}

const nobody = 65534

// runs is the command of a server without files. $BIN is the folder of the programs.
func runs(args ...string) func(s *served) (line, env []string) {
	return func(s *served) (line, env []string) {
		for _, a := range args {
			line = append(line, s.expand(a))
		}
		return line, nil
	}
}

// quicGo is a use of a server of quic-go, which receives by recvmmsg(2) on the number
// inside its UDPConn: such a socket becomes the kernel's.
func quicGo(name string, args ...string) use {
	u := client(name, "http3", args...)
	u.kernel = true
	return u
}

// recvErr is a use for which the server sets IP_RECVERR, whose queue of errors only the
// kernel has.
func recvErr(u use) use {
	u.kernel = true
	return u
}

// grpcCase is a case of gRPC's own interoperability client.
func grpcCase(name string) use {
	return use{
		name: name,
		command: func(s *served, _ load) []string {
			return []string{filepath.Join(s.programs, "grpc-client"), "-server_host=" + s.pair.A.Addr4.String(), "-server_port=10000", "-test_case=" + name}
		},
		report: func(string) (*report, error) { return &report{Requests: 1}, nil },
	}
}

// etcdBenchmark is a command of etcd's own load generator.
func etcdBenchmark(command ...string) use {
	return use{
		name: command[0],
		command: func(s *served, l load) []string {
			total := l.requests
			if total == 0 {
				total = 500 + 200*l.users
			}
			return append([]string{filepath.Join(s.programs, "benchmark"), "--endpoints=" + s.pair.A.Addr4.String() + ":2379",
				fmt.Sprint("--conns=", l.users), fmt.Sprint("--clients=", l.users), command[0], fmt.Sprint("--total=", total)}, command[1:]...)
		},
		report: etcdReport,
	}
}

// etcdReport reads what the load generator says.
func etcdReport(text string) (*report, error) {
	var rate, tail, seconds float64
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "Error distribution"):
			return nil, errors.New("there were errors")
		case len(f) == 2 && f[0] == "Requests/sec:":
			rate, _ = strconv.ParseFloat(f[1], 64)
		case len(f) == 4 && f[0] == "99%":
			tail, _ = strconv.ParseFloat(f[2], 64)
		case len(f) == 3 && f[0] == "Total:":
			seconds, _ = strconv.ParseFloat(f[1], 64)
		}
	}
	if rate == 0 || seconds == 0 {
		return nil, errors.New("there is no rate")
	}
	return &report{Requests: int(rate * seconds), Seconds: seconds, P99: int(tail * 1e6)}, nil
}

// site writes files that servers serve, and serves them itself in namespace B, port 8080.
func (s *served) site() error {
	dir := filepath.Join(s.dir, "site")
	if s.server != nil { // it runs again
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{})
	for name, size := range map[string]int{"small": 1 << 10, "large": 1 << 20} {
		text := make([]byte, size)
		_, _ = random.Read(text) // it never fails
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "name"), []byte("answer"), 0o644); err != nil {
		return err
	}
	l, err := s.pair.B.Listen("tcp", net.JoinHostPort(s.pair.B.Addr4.String(), "8080"))
	if err != nil {
		return err
	}
	s.t.Cleanup(func() { l.Close() })
	go func() { _ = http.Serve(l, http.FileServer(http.Dir(dir))) }()
	return nil
}

func caddy(s *served) (args, env []string) {
	s.must(s.site())
	s.write("Caddyfile", `{
	admin 127.0.0.1:2019
	auto_https disable_redirects
	skip_install_trust
	default_sni $A
}
(site) {
	handle_path /up/* {
		reverse_proxy $B:8080
	}
	handle {
		root * $DIR/site
		file_server
	}
}
:80 {
	import site
}
https://$A {
	tls internal
	import site
}
`)
	return []string{filepath.Join(s.programs, "caddy"), "run", "--config", filepath.Join(s.dir, "Caddyfile")},
		[]string{"HOME=" + s.dir, "XDG_DATA_HOME=" + s.dir, "XDG_CONFIG_HOME=" + s.dir}
}

func coreDNS(s *served) (args, env []string) {
	if s.server == nil {
		s.pair.B.Dnsmasq(s.t, "--address=/up.example/192.0.2.2", "--port=53")
	}
	s.write("zone", "$ORIGIN example.org.\n@ 3600 IN SOA ns admin 1 7200 3600 1209600 3600\n@ 3600 IN NS ns\nns 3600 IN A 192.0.2.1\nwww 3600 IN A 192.0.2.1\n")
	s.write("Corefile", `.:53 {
	file $DIR/zone example.org
	forward up.example $B:53
	prometheus 127.0.0.1:9153
	errors
}
`)
	return []string{filepath.Join(s.programs, "coredns"), "-conf", filepath.Join(s.dir, "Corefile")}, nil
}

// postgres makes an empty database that trusts the network it is on.
func postgres(s *served) (args, env []string) {
	data := filepath.Join(s.dir, "data")
	if s.server == nil {
		s.must(os.Mkdir(data, 0o700))
		s.must(os.Chown(data, nobody, nobody))
		c := s.pair.A.Command(postgresTool(s.t, "initdb"), "-D", data, "-A", "trust", "-U", "nobody", "--no-sync")
		c.Dir = data
		c.SysProcAttr.Credential = credential(nobody)
		if out, err := c.CombinedOutput(); err != nil {
			s.t.Fatalf("initdb: %v\n%s", err, out)
		}
		s.write("data/pg_hba.conf", "host all all 0.0.0.0/0 trust\n")
	}
	return []string{postgresTool(s.t, "postgres"), "-D", data, "-h", s.pair.A.Addr4.String(), "-k", "", "-N", "600", "-F", "-c", "shared_buffers=32MB"}, nil
}

// postgresTool finds a program of PostgreSQL, which Debian keeps out of PATH.
func postgresTool(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	l, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(l) == 0 {
		need.Missing(t, "%s (Debian package postgresql)", name)
	}
	return l[len(l)-1]
}

// write writes a file of the server's, with $A and the like as in client.
func (s *served) write(name, text string) {
	s.t.Helper()
	s.must(os.WriteFile(filepath.Join(s.dir, name), []byte(s.expand(text)), 0o644))
}

func (s *served) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(fmt.Errorf("%s: %w", s.name, err))
	}
}
