package stack

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// kickQueue counts the packets that no Kick has sent. Its Kick refuses some times
// first.
type kickQueue struct {
	driver.Queue
	posted   int
	refusals int
}

func (q *kickQueue) TxBatch(ds []ring.Desc) int {
	n := q.Queue.TxBatch(ds)
	q.posted += n
	return n
}

func (q *kickQueue) Kick() error {
	if q.posted > 0 && q.refusals > 0 {
		q.refusals--
		return syscall.EAGAIN
	}
	q.posted = 0
	return q.Queue.Kick()
}

// kicked is a pair whose second stack sends by q.
func kicked(t *testing.T, q *kickQueue) (a, b *Stack) {
	return newPair(t, pairOptions{nic: sim.Config{TakeAll: true}, config: func(c *Config) {
		if _, ours := c.Net.Local(addrB); ours {
			q.Queue = c.Links[0].Queues[0]
			c.Links[0].Queues = []driver.Queue{q}
		}
	}})
}

// TestClosingStackIsSilent: a goroutine that polls a closing stack answers no
// segment, since no kick follows: the frame would stay on the ring.
func TestClosingStackIsSilent(t *testing.T) {
	q := &kickQueue{}
	_, b := kicked(t, q)
	b.shutdown()
	dev := b.cfg.Links[0].Steering.(*sim.Device)
	from, to := netip.AddrPortFrom(addrA, 1), netip.AddrPortFrom(addrB, 2)
	stray := packetOf(addrA, addrB, ip.ProtoTCP, tcpOf(from, to, forged{flags: tcp.FlagACK, seq: 1, ack: 1}))
	for name, turn := range map[string]func(){
		"reactor": func() { b.reactOnce(true) },
		"waiter":  func() { b.pollAt(nanotime()) },
		"writer":  func() { b.pollOnce() },
		"arming":  b.arm,
	} {
		if !dev.Inject(0, stray) {
			t.Fatal("the link takes no packet")
		}
		turn()
		b.begin()
		if q.posted != 0 {
			t.Errorf("%s: %d packets wait for a kick", name, q.posted)
		}
		b.end()
	}
}

// TestCloseKicksAgain: resets leave although the device refuses some kicks.
func TestCloseKicksAgain(t *testing.T) {
	q := &kickQueue{}
	a, b := kicked(t, q)
	c, _ := connect(t, a, b, addrB)
	b.begin()
	q.refusals = 3
	b.end()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer's read returned %v, want ECONNRESET", err)
	}
}
