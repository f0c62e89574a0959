package main

import (
	"fmt"

	"github.com/nats-io/nats.go"
)

// mailbox is a session of NATS with a subject of its own.
type mailbox struct {
	conn  *nats.Conn
	in    *nats.Subscription
	round int
}

func openNATS(o *options, n int) (session, error) {
	c, err := nats.Connect(o.targets[0], nats.Timeout(patience), nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	in, err := c.SubscribeSync(unique(n))
	return &mailbox{conn: c, in: in}, err
}

// ask publishes a hundred messages, up to 4 KiB, and receives them in order.
func (m *mailbox) ask(string) error {
	m.round++
	const many = 100
	message := make([]byte, 8+m.round*997%4096)
	for i := range many {
		copy(message, fmt.Sprintf("%08d", i))
		if err := m.conn.Publish(m.in.Subject, message); err != nil {
			return err
		}
	}
	for i := range many {
		got, err := m.in.NextMsg(patience)
		if err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		if len(got.Data) != len(message) || string(got.Data[:8]) != fmt.Sprintf("%08d", i) {
			return fmt.Errorf("%w: message %d", errAnswer, i)
		}
	}
	return nil
}

func (m *mailbox) close() { m.conn.Close() }
