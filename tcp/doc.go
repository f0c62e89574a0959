// Package tcp is TCP (RFC 9293) as a pure state machine: segments and time go
// in, segments and events come out. It does no I/O, starts no goroutine and
// reads no clock. A Conn is one connection, a Listener a port in LISTEN, a
// TimeWait what remains of a Conn; a Host is what those of one stack share.
//
// Senders and receivers keep data in frames of a ring.Arena, on lists through
// the frames' metadata: an idle connection holds none. The send queue
// is also the scoreboard of SACK (RFC 2018, 6675) and of time-based loss
// detection (RFC 8985).
//
// All methods belong to the holder of the stack lock, but for Conn's Read,
// Write, Readable, Writable, Err and State, and Listener's Taken and Pending.
package tcp
