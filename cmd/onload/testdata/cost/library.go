//go:build library && onload_loop

package main

import (
	"github.com/onload-go/onload/internal/engine"
	onload "github.com/onload-go/onload/net"
)

var listen, dial = onload.Listen, onload.Dial

func init() { check(engine.UseLoop()) }
