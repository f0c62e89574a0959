package inlet

import (
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// TestSinkPorts: all sinks of an inlet have one port, which the kernel gives to no
// client while there are others, and two inlets have two.
func TestSinkPorts(t *testing.T) {
	lab.NeedRoot(t)
	for _, c := range []struct {
		local string
		want  [2]int
	}{
		{"32768 60999", [2]int{65535, 65534}},
		{"32768 65535", [2]int{32767, 32766}},
		{"1025 65534", [2]int{65535, 1024}},
		{"1024 65535", [2]int{65535, 65534}},
	} {
		ns, err := lab.NewNS("sinks")
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		if err := ns.Sysctl("net.ipv4.ip_local_port_range", c.local); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			in, err := Open(ns.Handle(), zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			if len(in.sinks) != 4 {
				t.Errorf("%d sinks", len(in.sinks))
			}
			for _, fd := range in.sinks {
				got := 0
				switch a, err := unix.Getsockname(fd); a := a.(type) {
				case *unix.SockaddrInet4:
					got = a.Port
				case *unix.SockaddrInet6:
					got = a.Port
				default:
					t.Error(err)
				}
				if got != want {
					t.Errorf("of %s, a sink has port %d, want %d", c.local, got, want)
				}
			}
		}
	}
}
