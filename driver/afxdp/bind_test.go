package afxdp

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// A driver that says nothing about zero-copy and refuses it with frames of both
// sizes is copied from, with frames of the size that is usual, and works.
func TestBindFallsBack(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	a, b := openAt(t, p.A, Config{Mode: ModeNative}), openAt(t, p.B, Config{})
	must(t, b.AddPort(udp, anyPort(80)))
	must(t, a.closeQueues())
	a.queues.set(nil)
	must(t, p.A.Do(func() error {
		l, err := lookupLink(p.A.If)
		if err != nil {
			return err
		}
		l.known, l.kind, l.driver = false, "", "some"
		c := Config{Interface: p.A.If, Log: zap.NewNop()}
		if err := errors.Join(c.defaults(), c.queues(l)); err != nil {
			return err
		}
		m, err := a.bind(&c, l, true)
		if err != nil {
			return err
		}
		if m != (bindMode{frags: true}) || a.arena.FrameSize() != 4096 {
			t.Errorf("bound as %v, frames of %d bytes", m, a.arena.FrameSize())
		}
		return nil
	}))
	for _, want := range []string{"driver some refused", "zero-copy without multi-buffer", "frames of 4096", "frames of 2048", "operation not supported", "ethtool -L"} {
		if !strings.Contains(a.copies, want) {
			t.Errorf("%q does not say %q", a.copies, want)
		}
	}
	a.describe(&Config{TxRing: DefaultRing, Log: zap.NewNop()}, &linkInfo{mtu: 1500}, ModeNative, bindMode{frags: true})
	send(t, a, a.queues.all()[0], datagram(v4of(p.A), v4of(p.B), 1000, 80, pattern(100)))
	if got, _ := receive(t, b, b.queues.all()[0], patience); got == nil {
		t.Error("nothing arrives")
	}
}

func TestCopyReason(t *testing.T) {
	nic := linkInfo{driver: "ena", known: true, features: actBasic | actRedirect | actZeroCopy}
	none := nic
	none.features = actBasic
	refused := []error{fmt.Errorf("afxdp: bind: %w", unix.EINVAL)}
	for _, tt := range []struct {
		c      Config
		l      linkInfo
		native bool
		want   string
	}{
		{Config{ZeroCopy: ZeroCopyOff}, nic, true, "zero-copy is turned off"},
		{Config{}, linkInfo{driver: "veth", kind: "veth"}, true, "a veth link has no zero-copy"},
		{Config{}, nic, false, "the XDP program runs in generic mode"},
		{Config{}, none, true, "driver ena has no zero-copy"},
		{Config{anySize: true}, nic, true, "driver ena refused zero-copy: bind: invalid argument: the driver may want another MTU or ring size"},
		{Config{FrameSize: 2048}, nic, true, "driver ena refused zero-copy: bind: invalid argument: the driver may want another MTU or ring size; " +
			"frames of another size were not tried, as one is set"},
	} {
		if got := copyReason(&tt.c, &tt.l, tt.native, refused); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
