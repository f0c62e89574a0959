//go:build !library || !onload_loop

package main

import "net"

var listen, dial = net.Listen, net.Dial
