package tcp

import "github.com/onload-go/onload/ring"

// Event is a set of things that happened to a Conn.
type Event uint16

const (
	// EvReadable: data, end of stream or an error waits for Read.
	EvReadable Event = 1 << iota
	// EvWritable: a full send buffer has room again, or Write will fail; or our
	// FIN was acknowledged.
	EvWritable
	// EvConnected: the handshake is complete.
	EvConnected
	// EvClosed: the protocol has finished with the connection.
	EvClosed
	// EvError: Err returns something now.
	EvError
	// EvHup: the peer will send no more.
	EvHup
	// EvTimeWait: only 2MSL of TIME-WAIT remain, which Conn.TimeWait returns. No
	// EvClosed follows.
	EvTimeWait
)

// Owner is the side of a Conn that faces the stack. Its methods are called under
// the stack lock, from within Conn's methods. They must not call back into the
// Conn.
type Owner interface {
	// Transmit sends one TCP packet. pkt[0] begins with the TCP header, with at
	// least 128 bytes in front of it for lower headers. All bytes are final. The
	// receiver of the packet holds its own reference on each frame until the device
	// is done. false: there is no room, nothing happened, and Output is to be
	// called when there is.
	Transmit(pkt []ring.Desc, ecn uint8) bool
	// Notify reports events.
	Notify(ev Event)
}
