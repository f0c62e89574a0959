package onload_test

import (
	"testing"

	onload "github.com/onload-go/onload/net"
)

// TestPathString: a path is one line, also where the reason is of several
// errors.
func TestPathString(t *testing.T) {
	for want, p := range map[string]onload.Path{
		"kernel (bind: no; bind: no again)":                 {Reason: "bind: no\nbind: no again"},
		"eth0 (ice, native, zero-copy)":                     {Accelerated: true, Interface: "eth0", Driver: "ice", Mode: "native", ZeroCopy: true},
		"veth0 (veth, generic, copy, segmentation offload)": {Accelerated: true, Interface: "veth0", Driver: "veth", Mode: "generic", TSO: 65536},
	} {
		if got := p.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
