//go:build onload_loop

package ip

// loop: the wire leads back to this host, whose addresses are loopback's. It is for
// the standard library's own tests (internal/stdtest).
const loop = true
