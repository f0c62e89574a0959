package recipes

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/redcon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// order is what a child process is to do.
type order struct {
	Recipe, Addr string
	Serve        bool
	Key          ed25519.PrivateKey
	Cert         []byte
}

const orderEnv = "RECIPES_TEST_ORDER"

// The two ends of a recipe are this program, each in a namespace of its own
// and with the default engine.
func TestMain(m *testing.M) {
	text := os.Getenv(orderEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	var o order
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		err = o.carryOut()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// recipe has a server, which ends with the process, and a request to it.
type recipe struct {
	serve, ask func(o *order) error
}

const greeting = "hello"

func serveGreeting(o *order) error {
	return ServeHTTP(o.Addr, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, greeting) }))
}

var all = map[string]recipe{
	"watch": {serveGreeting, watched},
	"http": {
		serveGreeting,
		func(o *order) error {
			resp, err := GetHTTP("http://" + o.Addr)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			return wantGreeting(resp.Body)
		},
	},
	"tls": {
		func(o *order) error {
			return ServeTLS(o.Addr, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{o.Cert}, PrivateKey: o.Key}}},
				func(c *tls.Conn) { io.WriteString(c, greeting); c.Close() })
		},
		func(o *order) error {
			cert, err := x509.ParseCertificate(o.Cert)
			if err != nil {
				return err
			}
			roots := x509.NewCertPool()
			roots.AddCert(cert)
			host, _, _ := net.SplitHostPort(o.Addr)
			c, err := DialTLS(o.Addr, &tls.Config{RootCAs: roots, ServerName: host})
			if err != nil {
				return err
			}
			defer c.Close()
			return wantGreeting(c)
		},
	},
	"grpc": {
		func(o *order) error {
			return ServeGRPC(o.Addr, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, health.NewServer()) })
		},
		func(o *order) error {
			c, err := DialGRPC(o.Addr)
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := healthpb.NewHealthClient(c).Check(context.Background(), &healthpb.HealthCheckRequest{})
			if err == nil && r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
				err = fmt.Errorf("status %v", r.GetStatus())
			}
			return err
		},
	},
	"redis": {
		func(o *order) error {
			ln, err := onload.Listen("tcp", o.Addr)
			if err != nil {
				return err
			}
			return redcon.Serve(ln, func(c redcon.Conn, cmd redcon.Command) {
				if strings.EqualFold(string(cmd.Args[0]), "get") {
					c.WriteBulkString(greeting)
				} else {
					c.WriteError("ERR unknown command")
				}
			}, nil, nil)
		},
		func(o *order) error {
			c := NewRedis(o.Addr)
			defer c.Close()
			v, err := c.Get(context.Background(), "key").Result()
			if err == nil && v != greeting {
				err = fmt.Errorf("the value is %q", v)
			}
			return err
		},
	},
}

// watched is GetHTTP with all that README.md has for watching it.
func watched(o *order) error {
	if err := LogStatus(); err != nil {
		return err
	}
	var file bytes.Buffer
	stop, err := Record(&file)
	if err != nil {
		return err
	}
	resp, err := GetHTTP("http://" + o.Addr)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := wantGreeting(resp.Body); err != nil {
		return err
	}
	if err := stop(); err != nil {
		return err
	}
	if !bytes.Contains(file.Bytes(), []byte("GET / HTTP/1.1")) {
		return errors.New("the capture lacks the request")
	}
	return nil
}

func wantGreeting(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err == nil && string(b) != greeting {
		err = fmt.Errorf("the answer is %q", b)
	}
	return err
}

// carryOut runs an end. The client's reports an error also where the kernel
// carried it; the server's ends when its standard input does.
func (o *order) carryOut() error {
	r := all[o.Recipe]
	if !o.Serve {
		if err := r.ask(o); err != nil {
			return err
		}
		return accelerated(func(s onload.Stats) uint64 { return s.TCPDials })
	}
	failed := make(chan error, 1)
	go func() { failed <- r.serve(o) }()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		failed <- accelerated(func(s onload.Stats) uint64 { return s.TCPAccepts })
	}()
	return <-failed
}

// accelerated returns an error if the default engine counts no connection.
func accelerated(count func(onload.Stats) uint64) error {
	e, err := onload.Default()
	if err != nil {
		return err
	}
	for _, s := range e.Stats() {
		if count(s) > 0 {
			return nil
		}
	}
	return errors.New("the kernel carried it")
}

func TestRecipes(t *testing.T) {
	lab.NeedRoot(t)
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name := range all {
		t.Run(name, func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			o := order{Recipe: name, Addr: net.JoinHostPort(p.B.Addr4.String(), "7000"), Key: key}
			c := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{p.B.Addr4.AsSlice()}, IsCA: true, BasicConstraintsValid: true,
				NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
			if o.Cert, err = x509.CreateCertificate(rand.Reader, c, c, pub, key); err != nil {
				t.Fatal(err)
			}
			o.Serve = true
			srv := command(t, p.B, &o)
			stdin, err := srv.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			srv.Stdout = &out
			if err := srv.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				err = srv.Wait()
				close(ended)
			}()
			waitOpen(p.B, o.Addr, ended)

			o.Serve = false
			if b, err := command(t, p.A, &o).CombinedOutput(); err != nil {
				t.Errorf("client: %v: %s", err, b)
			}
			stdin.Close()
			if <-ended; err != nil {
				t.Errorf("server: %v: %s", err, &out)
			}
		})
	}
}

func command(t *testing.T, ns *lab.NS, o *order) *lab.Cmd {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := ns.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), orderEnv+"="+string(b), "ONLOAD_INTERFACES="+ns.If)
	return cmd
}

// waitOpen waits until the server listens, or has ended: its kernel twin takes
// connections of its own host.
func waitOpen(ns *lab.NS, addr string, ended <-chan struct{}) {
	for {
		if c, err := ns.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		select {
		case <-ended:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}
