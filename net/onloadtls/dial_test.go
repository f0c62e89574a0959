package onloadtls_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
	onload "github.com/onload-go/onload/net"
	"github.com/onload-go/onload/net/onloadtls"
)

// link returns the two ends of a link in memory, and the address of the second.
func link(t *testing.T) (a, b *onload.Engine, address string) {
	t.Helper()
	c := onload.MemoryConfig{Config: onload.Config{Logger: zap.NewNop()}}
	a, b, err := onload.NewMemoryPair(c, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return a, b, "10.0.0.2"
}

// certificate returns that of net/http/httptest, for example.com, and a pool with it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return s.TLS.Certificates[0], pool
}

func TestDial(t *testing.T) {
	a, b, address := link(t)
	cert, pool := certificate(t)
	ln, err := b.Listen("tcp", address+":443")
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}})
	defer secure.Close()
	go func() {
		for {
			c, err := secure.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	d := &onload.Dialer{Engine: a, Timeout: time.Minute}
	config := &tls.Config{RootCAs: pool, ServerName: "example.com"}
	c, err := onloadtls.DialWithDialer(d, "tcp", ln.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	echo(t, c)
	if p := onload.PathOf(c.NetConn()); !p.Accelerated {
		t.Errorf("the connection is the kernel's: %v", p)
	}
	via, err := (&onloadtls.Dialer{NetDialer: d, Config: config}).DialContext(context.Background(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	echo(t, via)
	if config.ServerName != "example.com" {
		t.Error("the config was changed")
	}
	// Without a name the certificate has to be the address's.
	var wrong x509.HostnameError
	if _, err := onloadtls.DialWithDialer(d, "tcp", ln.Addr().String(), &tls.Config{RootCAs: pool}); !errors.As(err, &wrong) || wrong.Host != address {
		t.Errorf("a certificate for another name: %v", err)
	}
}

// TestDialTimeout: the dialer's timeout holds for a server that never answers the
// handshake.
func TestDialTimeout(t *testing.T) {
	a, b, address := link(t)
	ln, err := b.Listen("tcp", address+":443")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, d := range []*onload.Dialer{
		{Engine: a, Timeout: 50 * time.Millisecond},
		{Engine: a, Deadline: time.Now().Add(50 * time.Millisecond)},
	} {
		c, err := (&onloadtls.Dialer{NetDialer: d}).Dial("tcp", ln.Addr().String())
		if c != nil || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v, %v", c, err)
		}
	}
}

func echo(t *testing.T, c io.ReadWriteCloser) {
	t.Helper()
	defer c.Close()
	got := make([]byte, 5)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}
