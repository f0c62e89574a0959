package program

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"

	goredis "github.com/redis/go-redis/v9"
	"github.com/tidwall/redcon"
)

const key = "key"

var redis = &Program{
	Name: "redis",
	Doc:  "tidwall/redcon and go-redis, GET of 64 bytes",
	Serve: func(n *Network, host, _ string) (*Server, error) {
		return n.serve(host, func(l net.Listener) error {
			return redcon.Serve(l, command, func(redcon.Conn) bool { return true }, nil)
		})
	},
	Dial: dialRedis,
}

var redisServer = &Program{
	Name: "redis-server",
	Doc:  "Redis itself, over the kernel, and go-redis, GET of 64 bytes",
	External: &External{
		Needs: func() error {
			_, err := redisPath()
			return err
		},
		Command: func(_, host string, _ bool) (*Command, error) {
			path, err := redisPath()
			return &Command{Args: []string{path, "--bind", host, "--port", "6379", "--save", "", "--protected-mode", "no", "--daemonize", "no", "--logfile", ""},
				Addr: net.JoinHostPort(host, "6379")}, err
		},
		Stop:       syscall.SIGTERM,
		KernelOnly: true,
	},
	Dial: func(n *Network, addr string, conns int) ([]Call, error) {
		calls, err := dialRedis(n, addr, conns)
		if err != nil {
			return nil, err
		}
		// The value is there from the first Call on.
		get, set := calls[0], false
		calls[0] = func() error {
			if !set {
				c := goredis.NewClient(&goredis.Options{Addr: addr, Protocol: 2, DisableIdentity: true})
				defer c.Close()
				if err := c.Set(context.Background(), key, payload, 0).Err(); err != nil {
					return err
				}
				set = true
			}
			return get()
		}
		return calls, nil
	},
}

func redisPath() (string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		err = fmt.Errorf("%w (package redis-server)", err)
	}
	return path, err
}

func command(c redcon.Conn, cmd redcon.Command) {
	switch strings.ToLower(string(cmd.Args[0])) {
	case "get":
		c.WriteBulk(payload)
	case "ping":
		c.WriteString("PONG")
	default:
		c.WriteError("ERR unknown command")
	}
}

// dialRedis has one client with a pool, of which each Call keeps a connection.
func dialRedis(n *Network, addr string, conns int) ([]Call, error) {
	ctx := context.Background()
	c := goredis.NewClient(&goredis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, PoolSize: conns, Dialer: n.DialContext})
	return each(conns, func() (Call, error) {
		conn := c.Conn()
		return func() error {
			b, err := conn.Get(ctx, key).Bytes()
			if err == nil && len(b) != Payload {
				err = fmt.Errorf("a value of %d bytes", len(b))
			}
			return err
		}, nil
	})
}
