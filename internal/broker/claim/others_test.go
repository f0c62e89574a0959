package claim

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestConnectionsOfAnother: where connections go on of a listener of another user, which has
// closed, the port is nobody's to steer. When they have ended it can be had.
func TestConnectionsOfAnother(t *testing.T) {
	ns, cookie := newNS(t)
	for _, name := range []string{"tcp listens, SO_REUSEADDR", "tcp, SO_REUSEADDR no more"} {
		for _, at := range []string{"127.0.0.1:7000", "[::]:7000"} {
			t.Run(name+" beside "+at, func(t *testing.T) {
				l, err := ns.Listen("tcp", at)
				if err != nil {
					t.Fatal(err)
				}
				client, err := ns.Dial("tcp", "127.0.0.1:7000")
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				server, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				l.Close()
				prove := func(uid uint32) error {
					fd, next := passed(t, ns, name)
					defer next()
					var c *Claim
					err := ns.Do(func() (err error) { c, err = Prove(fd, cookie, uid); return err })
					if err == nil {
						err = c.Close()
					}
					return err
				}
				var e *Error
				if err := prove(nobody); !errors.Is(err, unix.EADDRINUSE) || !errors.As(err, &e) {
					t.Errorf("while a connection of root's goes on: %v", err)
				}
				if err := prove(0); err != nil {
					t.Errorf("while a connection of the user's own goes on: %v", err)
				}
				for _, c := range []net.Conn{server, client} { // the server's end is the one in TIME-WAIT
					if err := c.Close(); err != nil {
						t.Error(err)
					}
				}
				err = prove(nobody)
				for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); {
					err = prove(nobody)
				}
				if err != nil {
					t.Errorf("when it has ended: %v", err)
				}
			})
		}
	}
}
