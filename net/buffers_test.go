package onload_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	onload "github.com/onload-go/onload/net"
)

// TestBuffers: what net.Buffers does, and in few packets.
func TestBuffers(t *testing.T) {
	a, b := memoryPair(t)
	c, s := tcpPipe(t, a, b)
	bufs := onload.Buffers{[]byte("one "), nil, []byte("two "), []byte("three"), nil}
	if n, err := bufs.WriteTo(c); n != 13 || err != nil || len(bufs) != 0 {
		t.Fatalf("%d, %v, %d left", n, err, len(bufs))
	}
	before, err := c.Info()
	if err != nil {
		t.Fatal(err)
	}
	const short, length = 1000, 20
	var many onload.Buffers
	for range short {
		many = append(many, bytes.Repeat([]byte("x"), length))
	}
	many = append(many, bytes.Repeat([]byte("y"), 100_000)) // does not fit with others
	many = append(many, []byte("end"))
	var want bytes.Buffer
	for _, p := range many {
		want.Write(p)
	}
	got := make([]byte, 13+want.Len())
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(s, got)
		read <- err
	}()
	if n, err := many.WriteTo(c); n != int64(want.Len()) || err != nil || len(many) != 0 {
		t.Fatalf("%d, %v, %d left", n, err, len(many))
	}
	if err := <-read; err != nil || string(got) != "one two three"+want.String() {
		t.Fatalf("other bytes arrive, %v", err)
	}
	after, err := c.Info()
	if err != nil {
		t.Fatal(err)
	}
	if n := after.SegsOut - before.SegsOut; n > short/2 { // one Write of each makes nearly as many as buffers
		t.Errorf("%d buffers of %d bytes took %d segments", short, length, n)
	}

	c.Close()
	left := onload.Buffers{[]byte("a"), []byte("b")}
	n, err := left.WriteTo(c)
	var op *net.OpError
	if n != 0 || !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) || op.Op != "writev" || len(left) != 2 {
		t.Errorf("on a closed connection: %d, %v, %d left", n, err, len(left))
	}
}

// TestBuffersDatagram: all buffers are one datagram, as writev(2) sends them.
func TestBuffersDatagram(t *testing.T) {
	a, b := memoryPair(t)
	s, err := b.ListenPacket("udp", addrB+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := a.Dial("udp", s.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	bufs := onload.Buffers{[]byte("one "), []byte("two")}
	if n, err := bufs.WriteTo(c); n != 7 || err != nil || len(bufs) != 0 {
		t.Fatalf("%d, %v, %d left", n, err, len(bufs))
	}
	_ = s.SetReadDeadline(time.Now().Add(time.Minute))
	got := make([]byte, 100)
	if n, _, err := s.ReadFrom(got); err != nil || string(got[:n]) != "one two" {
		t.Errorf("%q, %v", got[:n], err)
	}
}
