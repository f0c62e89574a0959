//go:build guest

package engine_test

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"
)

const vfioDriver = "/sys/bus/pci/drivers/vfio-pci/"

// TestGuestUnbound: whoever unbinds a NIC from vfio-pci gets it while the engine that
// uses it is open. Its connections end with ENETDOWN, which is told once, as the kernel's
// errors are. It can be bound and taken again.
func TestGuestUnbound(t *testing.T) {
	ns := guestPeer(t)
	l, err := ns.Listen("tcp", "10.9.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e, err := guestEngine()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	c, err := e.Dial("tcp", "10.9.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	ended := make(chan error, 2)
	go func() {
		for b := make([]byte, 64<<10); ; {
			if _, err := c.Write(b); err != nil {
				ended <- err
				return
			}
		}
	}()
	go func() {
		_, err := io.Copy(io.Discard, struct{ io.Reader }{c})
		ended <- err
	}()
	if _, err := io.CopyN(io.Discard, peer, 1<<20); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, peer) // until it is closed
	address := []byte(os.Getenv("VMRUN_NIC0_PCI"))
	unbound := make(chan error, 1)
	go func() { unbound <- os.WriteFile(vfioDriver+"unbind", address, 0) }()
	var errs [2]error
	for i := range errs {
		select {
		case errs[i] = <-ended:
		case <-time.After(time.Minute):
			t.Fatal("a call hangs")
		}
	}
	if told := errors.Join(errs[:]...); !errors.Is(told, syscall.ENETDOWN) {
		t.Errorf("the calls end with %v", told)
	}
	select {
	case err := <-unbound:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the engine keeps the device")
	}
	if _, err := e.Dial("tcp", "10.9.0.2:7"); err == nil {
		t.Error("a dial succeeds")
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(vfioDriver+"bind", address, 0); err != nil {
		t.Fatal(err)
	}
	again, err := guestEngine()
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
