package main

import (
	"regexp"
	"testing"

	"github.com/onload-go/onload/internal/testlong"
)

// TestOverStack: tests of the standard library's packages pass over a stack as on the
// kernel, and it is a stack that carries them. With -long those of net, of which some
// ask for a descriptor and many open no connection.
func TestOverStack(t *testing.T) {
	pkg, match, most, accelerated := "net/rpc", "^TestRPC$|^TestHTTP$|^TestTCPClose$", 0, 3
	if testlong.Enabled() {
		pkg, match, most, accelerated = "net", "", 5, 80
	}
	s, err := build(pkg, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.run(regexp.MustCompile(match))
	if err != nil {
		t.Fatal(err)
	}
	if r.both == 0 || len(r.differ) > most {
		t.Errorf("%d tests pass on the kernel and over a stack, and on the kernel only: %v", r.both, r.differ)
	}
	if r.stack < accelerated {
		t.Errorf("of %d tests only %d were accelerated", r.both, r.stack)
	}
}
