package program

import (
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// natsBatch is how many messages one Call publishes before it waits for the
// server.
const natsBatch = 100

const subject = "s"

var natsPublish = &Program{
	Name:     "NATS pub",
	Doc:      "nats-server, its import of net swapped, and nats.go; a request is 100 messages of 64 bytes and a flush",
	External: natsServer,
	Dial: func(n *Network, addr string, conns int) ([]Call, error) {
		return each(conns, func() (Call, error) {
			return natsCall(n, addr, func(c *nats.Conn) error {
				for range natsBatch {
					if err := c.Publish(subject, payload); err != nil {
						return err
					}
				}
				return c.FlushTimeout(natsPatience)
			}), nil
		})
	},
}

var natsRequest = &Program{
	Name:     "NATS request",
	Doc:      "nats-server, its import of net swapped, and nats.go; requests of 64 bytes, answered by a further connection of the client's process",
	External: natsServer,
	Dial: func(n *Network, addr string, conns int) ([]Call, error) {
		calls, err := each(conns, func() (Call, error) {
			return natsCall(n, addr, func(c *nats.Conn) error {
				m, err := c.Request(subject, payload, natsPatience)
				if err == nil && len(m.Data) != Payload {
					err = fmt.Errorf("an answer of %d bytes", len(m.Data))
				}
				return err
			}), nil
		})
		if err != nil {
			return nil, err
		}
		ask, answering := calls[0], false
		calls[0] = func() error {
			if !answering {
				c, err := natsConn(n, addr)
				if err != nil {
					return err
				}
				if _, err := c.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
					return err
				}
				if err := c.FlushTimeout(natsPatience); err != nil {
					return err
				}
				answering = true
			}
			return ask()
		}
		return calls, nil
	},
}

var natsServer = &External{
	Needs:   fetchNATS,
	Prepare: buildNATS,
	Command: func(dir, host string, onload bool) (*Command, error) {
		name := natsKernel
		if onload {
			name = natsOnload
		}
		return &Command{Args: []string{filepath.Join(dir, name), "-a", host, "-p", "4222"}, Addr: net.JoinHostPort(host, "4222")}, nil
	},
	Stop: syscall.SIGTERM,
}

const natsPatience = 10 * time.Second

// natsDialer has nats.go dial by a Network.
type natsDialer struct{ n *Network }

// Dial implements nats.CustomDialer.
func (d natsDialer) Dial(network, addr string) (net.Conn, error) { return d.n.Dial(network, addr) }

func natsConn(n *Network, addr string) (*nats.Conn, error) {
	return nats.Connect("nats://"+addr, nats.SetCustomDialer(natsDialer{n}), nats.NoReconnect())
}

// natsCall connects at its first call.
func natsCall(n *Network, addr string, f func(*nats.Conn) error) Call {
	var c *nats.Conn
	return func() (err error) {
		if c == nil {
			if c, err = natsConn(n, addr); err != nil {
				return err
			}
		}
		return f(c)
	}
}
