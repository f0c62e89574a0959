//go:build !race

// The race detector's allocations are larger ones.

package onload_test

import (
	"net"
	"runtime"
	"testing"
)

// An idle connection takes less than 1 KiB of ours, everything counted that is
// allocated for it: in the tables of both ends, of the link in memory, of the
// ports.
func TestIdleConnBytes(t *testing.T) {
	const conns, most = 4000, 960
	a, b := memoryPair(t)
	ln, err := b.Listen("tcp", addrB+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for s, err := ln.Accept(); err == nil; s, err = ln.Accept() {
			accepted <- s
		}
	}()
	open := func() (ends [2]net.Conn) {
		c, err := a.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return [2]net.Conn{c, <-accepted}
	}
	for range 100 { // what is allocated once
		ends := open()
		defer ends[0].Close()
		defer ends[1].Close()
	}
	used := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	all := make([][2]net.Conn, conns)
	before := used()
	for i := range all {
		all[i] = open()
	}
	after := used()
	each := float64(after-before) / (2 * conns)
	t.Logf("%.0f bytes", each)
	if each > most {
		t.Errorf("each end of a connection takes %.0f bytes, want at most %d", each, most)
	}
	for _, ends := range all {
		ends[0].Close()
		ends[1].Close()
	}
}
