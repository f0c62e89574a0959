package routediff

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	onload "github.com/onload-go/onload/net"
)

// openTCP dials and has the peer answer, then looks at the connection.
func (t *try) openTCP(s stack, w *wire, patience time.Duration) (outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p, done, o, err := t.startDial(ctx, s, w, patience)
	if p == nil || err != nil {
		return o, err
	}
	err = t.reply(w, p.link, p.src, &layers.TCP{Seq: 1, Ack: p.seq + 1, SYN: true, ACK: true, ECE: strings.Contains(p.flags, "ece")})
	if err != nil {
		cancel()
	}
	r := <-done
	if r.err != nil {
		return "not connected", err
	}
	return t.describe(p) + "; " + stateOf(r.c), err
}

// serveTCP has the peer connect, then looks at the connection.
func (t *try) serveTCP(s stack, w *wire, patience time.Duration) (outcome, error) {
	l, err := s.listen(t.network("tcp"), fmt.Sprintf(":%d", t.port), t.hook())
	if err != nil {
		return failure(err), nil
	}
	accepted := make(chan net.Conn, 1)
	defer func() {
		l.Close()
		if c := <-accepted; c != nil {
			c.Close()
		}
	}()
	go func() {
		defer close(accepted)
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	if err := t.sendSYN(w); err != nil {
		return "", err
	}
	end := time.Now().Add(patience)
	p, err := t.catch("tcp", w, end)
	if p == nil || err != nil {
		return nothing, err
	}
	if err := t.reply(w, t.link, p.src, &layers.TCP{Seq: 2, Ack: p.seq + 1, ACK: true}); err != nil {
		return "", err
	}
	select {
	case c := <-accepted:
		return t.describe(p) + "; " + stateOf(c), nil
	case <-time.After(time.Until(end)):
		return t.describe(p) + "; not accepted", nil
	}
}

// stateOf is what a route decides of a connection that has sent nothing yet. It
// closes the connection.
func stateOf(c net.Conn) outcome {
	defer c.Close()
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0) // nobody would answer a FIN, and the port is needed again
	}
	i, err := infoOf(c)
	if err != nil {
		return failure(err)
	}
	// The least retransmission timeout, in steps of 50 ms: the rest is the kernel's ticks.
	floor := (i.RTO - i.RTT + 10*time.Millisecond) / (50 * time.Millisecond)
	o := fmt.Sprintf("%s cwnd %d mss %d path mtu %d ecn %v rto %d", i.Congestion, i.Cwnd, i.SendMSS, i.PathMTU, i.ECN, floor*50)
	if i.RecvWindow < ownWindow {
		o += fmt.Sprintf(" window %d", i.RecvWindow)
	}
	return outcome(o)
}

// infoOf is TCP_INFO of the kernel's connection, and Info of ours.
func infoOf(c net.Conn) (i onload.TCPInfo, err error) {
	if c, ok := c.(*onload.TCPConn); ok {
		return c.Info()
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return i, err
	}
	failed := raw.Control(func(fd uintptr) {
		var k *unix.TCPInfo
		if k, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err != nil {
			return
		}
		i.Cwnd, i.SendMSS, i.PathMTU, i.RecvWindow = int(k.Snd_cwnd*k.Snd_mss), int(k.Snd_mss), int(k.Pmtu), int(k.Rcv_wnd)
		i.RTO, i.RTT = time.Duration(k.Rto)*time.Microsecond, time.Duration(k.Rtt)*time.Microsecond
		const ecn = 8 // TCPI_OPT_ECN
		i.ECN = k.Options&ecn != 0
		i.Congestion, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		i.Congestion = ourName(i.Congestion)
	})
	if failed != nil {
		return i, failed
	}
	return i, err
}
