package nicshare

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/bpf"
)

const (
	// guardPin is the bpf_link of the program that refuses rings of packet sockets.
	guardPin = "guard"
	// packetMark is the mark of a link's packet socket (SO_MARK). Keep in step with
	// PACKET_MARK of filter.c.
	packetMark = 0x6f6e6c64
)

// openGuard has the kernel refuse rings of links' packet sockets. Where it cannot, see
// mayHaveRings.
func (n *NIC) openGuard() error {
	old, err := link.LoadPinnedLink(n.pins.path(guardPin), nil)
	if err == nil {
		n.guard = old
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("nicshare: %w", err)
	}
	if n.guard, err = newGuard(); err != nil {
		n.c.Log.Warn("nicshare: this kernel cannot keep processes from allocating packet rings",
			zap.Bool("every user may", usersMakeNamespaces()), zap.String("interface", n.shared.Name), zap.Error(err))
		return nil
	}
	return n.guard.Pin(n.pins.path(guardPin))
}

func newGuard() (link.Link, error) {
	spec, err := bpf.LoadFilter()
	if err != nil {
		return nil, err
	}
	var o struct {
		Program *ebpf.Program `ebpf:"onload_guard"`
	}
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		return nil, err
	}
	defer o.Program.Close()
	return link.AttachTracing(link.TracingOptions{Program: o.Program})
}

// mayHaveRings reports whether a process may have a packet socket though the kernel cannot
// refuse rings for it. In a user namespace of its own every process can allocate them.
func mayHaveRings(trusted bool) bool { return trusted || usersMakeNamespaces() }

// usersMakeNamespaces reports whether users without privileges may make user namespaces.
// Debian's and Ubuntu's kernels have settings of their own.
func usersMakeNamespaces() bool {
	is := func(setting, value string) bool {
		b, err := os.ReadFile("/proc/sys/" + setting)
		return err == nil && strings.TrimSpace(string(b)) == value
	}
	return !is("user/max_user_namespaces", "0") && !is("kernel/unprivileged_userns_clone", "0") && !is("kernel/apparmor_restrict_unprivileged_userns", "1")
}

// mark has the guard know a packet socket.
func mark(fd int) error {
	return os.NewSyscallError("setsockopt SO_MARK", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, packetMark))
}
