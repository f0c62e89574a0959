package stack

import _ "unsafe" // go:linkname

// goyield lets the goroutines run that wait for this P, those first that the
// caller woke, and goes on after them. runtime.Gosched puts its caller on the
// queue of all Ps instead, and where one of those is idle wakes a thread for
// it: a system call, perhaps an interrupt to a sleeping processor, and two
// threads that compete for one goroutine.
//
// A goroutine on the queue of all Ps may wait for 61 calls of goyield.
//
// The runtime keeps goyield for those outside that use it (proc.go there).
//
//go:linkname goyield runtime.goyield
func goyield()
