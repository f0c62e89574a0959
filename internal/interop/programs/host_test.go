package programs

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// patience bounds what would hang.
const patience = time.Minute

// host opens sockets at one end: a namespace's kernel, or an engine.
type host interface {
	Dial(network, address string) (net.Conn, error)
	ListenPacket(network, address string) (net.PacketConn, error)
}

// engine makes an engine on ns's interface, until the test ends.
func engine(t *testing.T, ns *lab.NS) *onload.Engine {
	t.Helper()
	e, err := onload.New(onload.Config{Interfaces: []string{ns.If}, NetNS: ns.Path, Frames: 8192})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// listen opens a UDP socket of h until the test ends.
func listen(t *testing.T, h host, network, address string) net.PacketConn {
	t.Helper()
	c, err := h.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// accelerated checks that c still is onload's if h is an engine.
func accelerated(t *testing.T, h host, c any) {
	t.Helper()
	if _, ok := h.(*onload.Engine); !ok {
		return
	}
	if path := onload.PathOf(c); !path.Accelerated {
		t.Errorf("%T: %v", c, path)
	}
}

// limited returns a context that ends with the test, or when patience does.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
