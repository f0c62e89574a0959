package engine

import (
	"net/netip"
	"os"
	"testing"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/lab"
	"golang.org/x/sys/unix"
)

// kernelWire is a pair whose end A belongs to a NIC in memory that no kernel stands
// behind; B's kernel is at the other end of the wire, with 10.0.0.2 and fd00::2.
func kernelWire(t *testing.T) (*lab.Pair, simNIC) {
	t.Helper()
	// A packet socket is given what the peer's kernel leaves to the device, so it is to
	// leave nothing.
	p := lab.NewPair(t, lab.Options{NoAddr: true, NoTxCsum: true, NoTSO: true, NoGSO: true, NoGRO: true})
	if err := p.A.Sysctl("net.ipv6.conf."+p.A.If+".disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.0.0.2/24", "fd00::2/64"} {
		if err := p.B.AddAddr(netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	f := wireSocket(t, p.A)
	dev, other, err := sim.New(sim.Config{Name: nicName, TakeAll: true}, sim.Config{Unmatched: func(frame []byte) {
		_, _ = f.Write(frame) // a frame is lost, as on a wire, where the kernel has no room
	}}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 4096)
		for {
			n, err := f.Read(b)
			if err != nil {
				return
			}
			dev.Inject(0, b[:n])
		}
	}()
	t.Cleanup(func() {
		f.Close()
		<-ended
		other.Close()
	})
	return p, simNIC{dev, nicMAC(1)}
}

// wireSocket receives what comes by the namespace's link, and sends by it.
func wireSocket(t *testing.T, ns *lab.NS) (f *os.File) {
	t.Helper()
	err := ns.Do(func() error {
		const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), "wire")
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ns.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}
