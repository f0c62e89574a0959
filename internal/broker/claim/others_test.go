package claim

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// boundAt is a socket of this process that is bound, and does nothing.
func boundAt(t *testing.T, ns *lab.NS, port int) (fd int) {
	t.Helper()
	err := ns.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, at(port))
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestConnectionsOfAnother: where connections go on of a listener of another user, which has
// closed, the port is nobody's to steer. When they have ended it can be had.
func TestConnectionsOfAnother(t *testing.T) {
	ns, cookie := newNS(t)
	for name, at := range map[string]string{"tcp listens, SO_REUSEADDR": "[::]:7000", "tcp, SO_REUSEADDR no more": "127.0.0.1:7000"} {
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
			defer unix.Close(boundAt(t, ns, 7009)) // of root's, too, and elsewhere
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
