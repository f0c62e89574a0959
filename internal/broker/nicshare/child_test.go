package nicshare

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

// childEnv makes the test binary the process of a link.
const childEnv = "ONLOAD_NICSHARE_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		serve()
		return
	}
	if what := os.Getenv(takerEnv); what != "" {
		takeOver(what)
		return
	}
	os.Exit(lab.OwnMounts(m.Run))
}

// order is what the test has the process do.
type order struct {
	Send     [][]byte // by the AF_XDP socket
	Segments []large  // by the packet socket
	Shared   []byte   // by the packet socket, from a page that the process has, too
	Change   []byte   // what that page is to have then
	Receive  int      // packets to wait for
	Drain    bool     // return what is there
	Try      string   // one of attempts
}

type large struct {
	Header [10]byte
	Packet []byte
}

// outcome is the answer.
type outcome struct {
	Packets [][]byte
	Err     string
	Errno   unix.Errno
}

// serve does orders until there are no more. Descriptors 4 to 7 are the Grant's and the
// memory.
func serve() {
	r, err := openRings(Grant{RX: 4, TX: 5, Packet: 6}, 7)
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	if e := out.Encode(outcomeOf(nil, err)); err != nil || e != nil {
		return
	}
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return
		}
		if err := out.Encode(outcomeOf(r.do(&o))); err != nil {
			return
		}
	}
}

func outcomeOf(ps [][]byte, err error) (o outcome) {
	o.Packets = ps
	if err != nil {
		o.Err = err.Error()
		errors.As(err, &o.Errno)
	}
	return o
}

func (r *rings) do(o *order) (ps [][]byte, err error) {
	if o.Try != "" {
		return nil, attempts[o.Try](r)
	}
	for _, b := range o.Send {
		if err := r.send(b); err != nil {
			return nil, err
		}
	}
	for _, l := range o.Segments {
		if err := r.segments(l.Header, l.Packet); err != nil {
			return nil, err
		}
	}
	if o.Shared != nil {
		if err := r.share(o.Shared); err != nil {
			return nil, err
		}
	}
	if o.Change != nil {
		copy(r.shared[sharedAt:], o.Change)
	}
	if o.Drain {
		ps = r.receive()
	}
	for end := time.Now().Add(patience); len(ps) < o.Receive; {
		if time.Now().After(end) {
			return ps, fmt.Errorf("%d packets of %d", len(ps), o.Receive)
		}
		if err := r.wait(); err != nil {
			return ps, err
		}
		ps = append(ps, r.receive()...)
	}
	return ps, nil
}

// wait waits for packets, a second at most.
func (r *rings) wait() error {
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(r.grant.RX), Events: unix.POLLIN}}, 1000)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// patience bounds what would hang. No verdict depends on how fast the machine is.
const patience = time.Minute

// process is one that has a link, user 65534 without capabilities.
type process struct {
	t    testing.TB
	link *Link
	cmd  *lab.Cmd
	in   *gob.Encoder
	out  *gob.Decoder
	end  io.Closer // of its orders
}

// start makes a link and a process that has it.
func start(t testing.TB, host *lab.NS, n *NIC, c LinkConfig) *process {
	t.Helper()
	l, err := n.NewLink(c)
	must(t, err)
	memfd, err := sealed(frames*frameSize, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	must(t, err)
	defer unix.Close(memfd)
	g, err := l.Grant(grantConfig(memfd))
	must(t, err)
	p := &process{t: t, link: l}
	p.cmd = host.Nobody(t, nil, 0)
	p.cmd.Env = append(os.Environ(), childEnv+"=1")
	for _, fd := range []int{g.RX, g.TX, g.Packet, memfd} {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		f := os.NewFile(uintptr(dup), "granted")
		defer f.Close()
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, f)
	}
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	must(t, g.Close())
	p.end, p.in, p.out = in, gob.NewEncoder(in), gob.NewDecoder(out)
	t.Cleanup(p.kill)
	var ready outcome
	must(t, p.out.Decode(&ready))
	if ready.Err != "" {
		t.Fatal(ready.Err)
	}
	return p
}

// do gives an order, which must succeed.
func (p *process) do(o order) [][]byte {
	p.t.Helper()
	a := p.try(o)
	if a.Err != "" {
		p.t.Fatal(a.Err)
	}
	return a.Packets
}

func (p *process) try(o order) (a outcome) {
	p.t.Helper()
	must(p.t, p.in.Encode(o))
	must(p.t, p.out.Decode(&a))
	return a
}

// kill ends the process by SIGKILL.
func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// grantConfig is that of all tests.
func grantConfig(memfd int) GrantConfig {
	return GrantConfig{UMEM: memfd, MaxBytes: frames * frameSize, FrameSize: frameSize, RxRing: ringSize, TxRing: ringSize, Segments: true, Trusted: true}
}
