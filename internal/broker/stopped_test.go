package broker_test

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
)

// TestStoppedClient is docs/security.md, "A client that does not run": peers that wait, or
// whose data is sent again, go on when it does; one with keepalive gives up.
func TestStoppedClient(t *testing.T) {
	if !testlong.Enabled() {
		t.Skip("a keepalive takes three seconds: -long")
	}
	w := newNetwork(t, lab.Options{}, everybody)
	p := w.start("nobody")
	p.line()
	at := w.at(7000)[0]
	p.want("broker "+at.String(), "listen tcp %v", at)
	var peers [3]net.Conn // waits, sends, has keepalive
	for i := range peers {
		c, err := w.B.Dial("tcp", at.String())
		must(t, err)
		defer c.Close()
		must(t, c.(*net.TCPConn).SetKeepAliveConfig(net.KeepAliveConfig{Enable: i == 2, Idle: time.Second, Interval: time.Second, Count: 2}))
		must(t, echoOver(c, 10))
		peers[i] = c
	}
	must(t, p.Process.Signal(unix.SIGSTOP))
	begun := time.Now()
	answer := make(chan error, 1)
	go func() { answer <- echoOver(peers[1], 1) }()
	must(t, peers[2].SetDeadline(begun.Add(patience)))
	if _, err := peers[2].Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("a peer with keepalive of 3 s: %v", err)
	}
	t.Logf("a peer with keepalive of 3 s gave up after %v", time.Since(begun))
	if w.free("tcp", at) {
		t.Error("others can have the port of a stopped client")
	}
	must(t, p.Process.Signal(unix.SIGCONT))
	if err := <-answer; err != nil {
		t.Errorf("a peer that sent meanwhile: %v", err)
	}
	if err := echoOver(peers[0], 10); err != nil {
		t.Errorf("a peer that waited: %v", err)
	}
}
