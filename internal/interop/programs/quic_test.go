package programs

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/onload-go/onload/internal/lab"
)

// quicConfig bounds a hang: quic-go's five seconds for a handshake are few where
// others have the processors.
var quicConfig = &quic.Config{HandshakeIdleTimeout: patience, MaxIdleTimeout: patience}

// quicBytes are sent by each end.
const quicBytes = 10 << 20

// TestQUIC: quic-go transfers 10 MB each way at the same time over sockets as
// they are, with its segmentation (UDP_SEGMENT), ECN and packet info, at
// each MTU, whichever end is onload's.
func TestQUIC(t *testing.T) {
	for _, mtu := range []int{1500, 9000, 65535} {
		p := lab.NewPair(t, lab.Options{MTU: mtu})
		a, b := engine(t, p.A), engine(t, p.B)
		for _, tt := range []struct {
			name           string
			server, client host
		}{
			{"kernel", p.A, p.B},
			{"server", a, p.B},
			{"client", p.A, b},
			{"both", a, b},
		} {
			t.Run(fmt.Sprint(mtu, "/", tt.name), func(t *testing.T) {
				t.Run("wildcard", func(t *testing.T) { quicTransfer(t, tt.server, tt.client, "", p.A.Addr4.String()) })
				t.Run("IPv6", func(t *testing.T) {
					quicTransfer(t, tt.server, tt.client, p.A.Addr6.String(), p.A.Addr6.String())
				})
			})
		}
	}
}

// quicTransfer sends quicBytes each way between a server that is bound to bind and
// a client that dials the address to.
func quicTransfer(t *testing.T, server, client host, bind, to string) {
	ctx := limited(t)
	sc, cc := listen(t, server, "udp", net.JoinHostPort(bind, "0")), listen(t, client, "udp", ":0")
	st, ct := &quic.Transport{Conn: sc}, &quic.Transport{Conn: cc}
	defer st.Close()
	defer ct.Close()
	serverTLS, clientTLS := quicTLS(t)
	l, err := st.Listen(serverTLS, quicConfig)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- quicServe(ctx, l) }()
	addr := &net.UDPAddr{IP: net.ParseIP(to), Port: sc.LocalAddr().(*net.UDPAddr).Port}
	c, err := ct.Dial(ctx, addr, clientTLS, quicConfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := quicAsk(ctx, c); err != nil {
		t.Error("client:", err)
	}
	c.CloseWithError(0, "")
	if err := <-served; err != nil {
		t.Error("server:", err)
	}
	accelerated(t, server, sc)
	accelerated(t, client, cc)
}

// quicAsk closes its side of the stream when it has sent everything, quicServe
// when it also has received everything: so nothing is on its way when the client
// closes the connection.
func quicAsk(ctx context.Context, c *quic.Conn) error {
	s, err := c.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(s, seeded(1))
		sent <- errors.Join(err, s.Close())
	}()
	return errors.Join(receive(s, 2), <-sent, usesGSO(c))
}

func quicServe(ctx context.Context, l *quic.Listener) error {
	c, err := l.Accept(ctx)
	if err != nil {
		return err
	}
	s, err := c.AcceptStream(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(s, seeded(2))
		sent <- err
	}()
	if err := errors.Join(receive(s, 1), <-sent, s.Close(), usesGSO(c)); err != nil {
		return err
	}
	<-c.Context().Done() // the client closes when it has everything
	return nil
}

func usesGSO(c *quic.Conn) error {
	if !c.ConnectionState().GSO {
		return errors.New("quic-go does not use UDP_SEGMENT")
	}
	return nil
}

// receive reads the bytes of the seed, and no more.
func receive(r io.Reader, seed byte) error {
	got, want := sha256.New(), sha256.New()
	n, err := io.Copy(got, r)
	if err != nil {
		return err
	}
	_, _ = io.Copy(want, seeded(seed)) // never fails
	if string(got.Sum(nil)) != string(want.Sum(nil)) {
		return fmt.Errorf("%d bytes, and not those that were sent", n)
	}
	return nil
}

// seeded returns quicBytes bytes that the seed determines.
func seeded(seed byte) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), quicBytes)
}

// quicTLS makes a certificate for this test, and configurations with it.
func quicTLS(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"server"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(nil, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	protos := []string{"transfer"}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: protos},
		&tls.Config{RootCAs: roots, ServerName: "server", NextProtos: protos}
}
