// Package wire is what a broker and its clients say to each other: messages over a
// Unix socket that keeps their boundaries (SOCK_SEQPACKET).
//
// A client asks, the broker answers, one question at a time. Every message is a
// Header and a body of fixed size, big-endian; only Welcome ends in a list. Neither
// side believes the other: a message of another size, with a value out of range, an
// unknown kind or a descriptor too many is an error, after which the connection ends.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is that of the protocol. A Hello of another one is refused with a Refusal
// that names both; no later message has it.
const Version = 1

// DefaultSocket is where a broker listens and clients look unless told otherwise.
const DefaultSocket = "/run/onload/broker.sock"

// Bounds of a message.
const (
	MaxMessage    = 4096 // bytes
	MaxFiles      = 3    // descriptors
	MaxInterfaces = 64   // of a Welcome
)

// ErrMalformed says that a message is not one of the protocol.
var ErrMalformed = errors.New("broker: malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Kind says what a message is.
type Kind uint8

// Header begins a message.
type Header struct {
	Kind Kind
	Zero uint8
	// Seq is the client's number of a question, and the same of its answer.
	Seq uint16
}

const headerLen = 4

// Message is a body. Each is listed in bodies.
type Message interface {
	kind() Kind
	// check returns an error if a value is out of range.
	check() error
}

// Append appends m as the message of that number to b.
func Append(b []byte, seq uint16, m Message) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, err
	}
	b, err := binary.Append(b, binary.BigEndian, Header{Kind: m.kind(), Seq: seq})
	if err != nil {
		return b, err
	}
	if w, ok := m.(*Welcome); ok {
		if b, err = binary.Append(b, binary.BigEndian, w.WelcomeHead); err != nil {
			return b, err
		}
		return binary.Append(b, binary.BigEndian, w.Interfaces)
	}
	return binary.Append(b, binary.BigEndian, m)
}

// Parse reads a message.
func Parse(p []byte) (seq uint16, m Message, err error) {
	var h Header
	if len(p) > MaxMessage {
		return 0, nil, malformed("%d bytes", len(p))
	}
	if _, err := binary.Decode(p, binary.BigEndian, &h); err != nil {
		return 0, nil, malformed("%d bytes", len(p))
	}
	if h.Zero != 0 {
		return 0, nil, malformed("a reserved byte is %d", h.Zero)
	}
	if m = newBody(h.Kind); m == nil {
		return h.Seq, nil, malformed("kind %d", h.Kind)
	}
	if err := decode(p[headerLen:], m); err != nil {
		return h.Seq, nil, err
	}
	return h.Seq, m, m.check()
}

func decode(body []byte, m Message) error {
	if w, ok := m.(*Welcome); ok {
		return w.decode(body)
	}
	if size := binary.Size(m); len(body) != size {
		return malformed("kind %d of %d bytes instead of %d", m.kind(), len(body), size)
	}
	_, err := binary.Decode(body, binary.BigEndian, m)
	return err
}
