package afxdp

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/lab"
)

// growing opens one end of a pair with four queues each, of which few are in use.
// The channel has a value after a notice.
func growing(t *testing.T, few int, c Config) (*lab.Pair, *Device, chan struct{}) {
	t.Helper()
	p := lab.NewPair(t, lab.Options{Queues: 4})
	setChannels(t, p, few)
	notices := make(chan struct{}, 1)
	c.Mode, c.Frames, c.RxRing = ModeGeneric, 1024, 256
	c.Changed = func() {
		select {
		case notices <- struct{}{}:
		default:
		}
	}
	return p, openAt(t, p.A, c), notices
}

// setChannels has both ends use n queues.
func setChannels(t *testing.T, p *lab.Pair, n int) {
	t.Helper()
	must(t, p.A.SetQueues(n))
	must(t, p.B.SetQueues(n))
}

func awaitNotice(t *testing.T, notices chan struct{}) {
	t.Helper()
	select {
	case <-notices:
	case <-time.After(patience):
		t.Fatal("no notice of the queues")
	}
}

// takes is the take of a caller that takes n queues.
func takes(t *testing.T, n int) func([]driver.Queue) error {
	return func(qs []driver.Queue) error {
		if len(qs) != n {
			t.Errorf("%d queues came, want %d", len(qs), n)
		}
		return nil
	}
}

// unheldAction is what becomes of packets of ours on queues without a socket.
func unheldAction(t *testing.T, d *Device) (action uint32) {
	t.Helper()
	must(t, d.objs.Unheld.Get(&action))
	return action
}

// TestNamedQueues: queues that the user left out are none that came, after notices
// that have changed nothing. Those that do come are missing.
func TestNamedQueues(t *testing.T) {
	p, d, notices := growing(t, 2, Config{Queues: []int{0}})
	setChannels(t, p, 3)
	setChannels(t, p, 2)
	awaitNotice(t, notices)
	if err := d.Grow(t.Context(), takes(t, 0)); err != nil || d.Missing() != "" {
		t.Errorf("nothing came: %v, missing %q", err, d.Missing())
	}
	setChannels(t, p, 3)
	awaitNotice(t, notices)
	if err := d.Grow(t.Context(), takes(t, 0)); err == nil || d.Missing() != err.Error() || !strings.Contains(err.Error(), "3 queues, of which 1") {
		t.Errorf("queue 2 came: %v, missing %q", err, d.Missing())
	}
}

// TestChannelsNotice: only notices of channels matter, and say of which interface.
func TestChannelsNotice(t *testing.T) {
	const index, queues = 7, 9
	notice := func(cmd byte, attr uint16) []byte {
		header := nlAttr(nil, headerIndex, native.AppendUint32(nil, index))
		header = nlAttr(header, headerIndex+1, []byte("veth0\x00"))
		b := append([]byte{cmd, 1, 0, 0}, nlAttr(nil, attr|unix.NLA_F_NESTED, header)...)
		return nlAttr(b, attr+1, native.AppendUint32(nil, queues))
	}
	for _, tt := range []struct {
		name string
		body []byte
		want int
	}{
		{"channels", notice(unix.ETHTOOL_MSG_CHANNELS_NTF, channelsHeader), index},
		{"rings", notice(unix.ETHTOOL_MSG_RINGS_NTF, channelsHeader), 0},
		{"no header", notice(unix.ETHTOOL_MSG_CHANNELS_NTF, channelsHeader+1), 0},
		{"cut short", []byte{unix.ETHTOOL_MSG_CHANNELS_NTF}, 0},
	} {
		if got := channelsNotice(tt.body); got != tt.want {
			t.Errorf("%s: interface %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestGrowUnmapped: a new queue that the program cannot redirect to is missing, and
// its packets are the kernel's, until the next Grow maps it.
func TestGrowUnmapped(t *testing.T) {
	p, d, notices := growing(t, 1, Config{})
	if got := unheldAction(t, d); got != xdpDrop {
		t.Fatalf("packets on queues that come: action %d, want XDP_DROP", got)
	}
	setChannels(t, p, 3)
	awaitNotice(t, notices)
	whole := d.objs.Xsks
	small, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 2})
	must(t, err)
	defer small.Close()
	d.objs.Xsks = small
	err = d.Grow(t.Context(), takes(t, 2))
	d.objs.Xsks = whole
	if err == nil || !strings.Contains(d.Missing(), "queue 2") || strings.Contains(d.Missing(), "queue 1") {
		t.Errorf("an XSKMAP without queue 2: %v, missing %q", err, d.Missing())
	}
	if got := unheldAction(t, d); got != xdpPass {
		t.Errorf("a queue receives nothing: action %d, want XDP_PASS", got)
	}
	if n := len(d.Queues()); n != 3 {
		t.Errorf("%d queues are the stack's, want 3", n)
	}
	if err := d.Grow(t.Context(), takes(t, 0)); err != nil || d.Missing() != "" {
		t.Errorf("another try: %v, missing %q", err, d.Missing())
	}
	if got := unheldAction(t, d); got != xdpDrop {
		t.Errorf("all receive: action %d, want XDP_DROP", got)
	}
	q := d.queues.all()[2]
	if err := whole.Update(uint32(q.id), uint32(q.fd), ebpf.UpdateExist); err != nil {
		t.Errorf("the queue's entry: %v", err)
	}
}

// TestGrowWhileClosing: Close waits for a Grow that is under way, which may steer.
func TestGrowWhileClosing(t *testing.T) {
	p, d, notices := growing(t, 1, Config{})
	setChannels(t, p, 2)
	awaitNotice(t, notices)
	closed := make(chan error, 1)
	must(t, d.Grow(t.Context(), func([]driver.Queue) error {
		go func() { closed <- d.Close() }()
		await(t, "Close waits", func() bool {
			var b strings.Builder
			return pprof.Lookup("goroutine").WriteTo(&b, 1) == nil && strings.Contains(b.String(), "(*growth).close")
		})
		steered := make(chan error, 1)
		go func() { steered <- d.AddPort(udp, anyPort(7)) }()
		select {
		case err := <-steered:
			return err
		case <-time.After(patience):
			return errors.New("AddPort waits for Close, which waits for Grow")
		}
	}))
	must(t, <-closed)
	if err := d.Grow(t.Context(), takes(t, 0)); !errors.Is(err, unix.EBADF) {
		t.Errorf("Grow after Close: %v", err)
	}
}

// TestGrowBusy: Grow waits for a queue of another socket only as long as its caller
// wants, and takes it when it is free.
func TestGrowBusy(t *testing.T) {
	p, d, notices := growing(t, 1, Config{})
	setChannels(t, p, 2)
	awaitNotice(t, notices)
	var other *Queue // with a UMEM of its own
	must(t, p.A.Do(func() error {
		l, err := lookupLink(fmt.Sprint(d.index))
		if err == nil {
			c := d.growth.c
			c.Queues = []int{1}
			other, err = d.bindQueue(t.Context(), &c, l, d.growth.mode, 1, make([]uint16, d.arena.Frames()), nil)
		}
		return err
	}))
	ended, end := context.WithCancel(t.Context())
	end()
	if err := d.Grow(ended, takes(t, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("Grow whose caller waits no more: %v", err)
	}
	must(t, other.closeSocket())
	if err := d.Grow(t.Context(), takes(t, 1)); err != nil || len(d.Queues()) != 2 {
		t.Errorf("a queue that is free again: %v, %d queues", err, len(d.Queues()))
	}
}
