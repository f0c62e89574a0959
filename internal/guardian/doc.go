// Package guardian tells the peers of a process that has died.
//
// The kernel closes the sockets of a dead process, and its peers learn at once. A stack
// of ours dies with the process, and a peer that waits for data would wait for its
// keepalive, two hours. So another process, the guardian, sleeps until the first one has
// ended in any way, and then makes each peer of the table of connections ask: the kernel
// answers the peer's question with a reset.
//
// The guardian holds a pidfd of the process, the table, and raw sockets, which it was
// given: it needs no privilege of its own. It is the program `onload`, or the program
// itself, executed again.
package guardian

// Descriptors of the guardian.
const (
	controlFD = 3 + iota // a stream socket: hello comes by it, then quit, or its end
	pidFD                // of the process
	tableFD              // package flowtable's
	rawFD                // raw sockets, of the families that the argument names
)

const (
	hello = 'g' // from the guardian: it is ready
	quit  = 'q' // to the guardian: the connections have been closed in order
)

// selfName is argv[0] of a program that is executed again as the guardian.
const selfName = "onload-guardian"
