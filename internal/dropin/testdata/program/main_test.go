package main

import (
	"net"
	"testing"
)

func TestDialer(t *testing.T) {
	if dialer(nil) == nil || plain((*net.TCPConn)(nil)) == nil {
		t.Fatal("no dialer")
	}
}
