package interop

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker"
	"github.com/onload-go/onload/internal/broker/policy"
	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

var overBroker = flag.Bool("broker", false, "have all engines take their interfaces by a broker's links")

// byBroker starts a broker that shares ns's interface, until the test ends, and has the
// engine take it from there.
func byBroker(t testing.TB, ns *lab.NS, c *onload.Config) {
	t.Helper()
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		t.Fatal(err)
	}
	everybody, err := policy.Parse([]byte("[[allow]]\nusers = [\"*\"]\ninterfaces = [\"*\"]\nmemory = \"1GiB\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	pins := filepath.Join(dir, "pins")
	c.Broker = filepath.Join(dir, "broker.sock")
	b, err := broker.Open(broker.Config{Socket: c.Broker, Interfaces: []string{ns.If}, PinDir: pins, Policy: everybody, InNS: ns.Do})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-served, b.Close(), unix.Unmount(pins, unix.MNT_DETACH), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
}
