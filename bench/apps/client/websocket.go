package main

import (
	"bytes"
	"context"
	"math/rand/v2"

	"github.com/coder/websocket"
)

// echo is a session of WebSocket with a server that sends all messages back.
type echo struct {
	conn    *websocket.Conn
	random  *rand.Rand
	message []byte
}

const largest = 64 << 10 // message

func openWebSocket(o *options, n int) (session, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, o.targets[0], nil)
	if err != nil {
		return nil, err
	}
	c.SetReadLimit(largest)
	e := &echo{c, rand.New(rand.NewPCG(uint64(n), 0)), make([]byte, largest)}
	for i := range e.message {
		e.message[i] = byte(e.random.Uint32())
	}
	return e, nil
}

// ask sends a message of a random size, most of them small.
func (e *echo) ask(string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m := e.message[:e.random.IntN(1<<(6+2*e.random.IntN(6)))]
	if err := e.conn.Write(ctx, websocket.MessageBinary, m); err != nil {
		return err
	}
	_, b, err := e.conn.Read(ctx)
	if err == nil && !bytes.Equal(b, m) {
		err = errAnswer
	}
	return err
}

func (e *echo) close() { _ = e.conn.CloseNow() }
