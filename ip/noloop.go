//go:build !onload_loop

package ip

const loop = false
