package broker_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"

	onload "github.com/onload-go/onload/net"
)

// roleEnv names what a child process does.
const roleEnv = "TEST_BROKER_ROLE"

// child does what it is told by lines on its standard input, and answers each by a line.
//
//	listen NETWORK ADDRESS        serves echo there; the answer is the path, and the address
//	dial NETWORK ADDRESS N        N echoes with a server there
//	open NETWORK ADDRESS          connects, for
//	over N                        N echoes over that connection
//	status                        the state of the first interface
//	close                         closes the last one that listens
func child(role string) {
	if role == "nobody" && os.Getuid() != 65534 {
		fmt.Fprintln(os.Stderr, "child: user", os.Getuid())
		os.Exit(1)
	}
	if role == "broker" {
		if err := brokerChild(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	d := &doer{}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		answer, err := d.do(strings.Fields(in.Text()))
		if err != nil {
			answer = "error: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		fmt.Println(answer)
	}
}

type doer struct {
	closers []interface{ Close() error }
	conn    net.Conn
}

func (d *doer) do(words []string) (string, error) {
	switch words[0] {
	case "listen":
		return d.listen(words[1], words[2])
	case "dial", "open":
		c, err := onload.Dial(words[1], words[2])
		if err != nil {
			return "", err
		}
		if words[0] == "open" {
			d.conn = c
			return how(c), nil
		}
		defer c.Close()
		return how(c), echoOver(c, number(words[3]))
	case "over":
		return "ok", echoOver(d.conn, number(words[1]))
	case "status":
		e, err := onload.Default()
		if err != nil {
			return "", err
		}
		s := e.Status()[0]
		return fmt.Sprintf("%v %v", s.Path, s.Err), nil
	case "close":
		last := len(d.closers) - 1
		c := d.closers[last]
		d.closers = d.closers[:last]
		return "ok", c.Close()
	}
	return "", fmt.Errorf("unknown %q", words)
}

func (d *doer) listen(network, address string) (string, error) {
	if strings.HasPrefix(network, "udp") {
		u, err := onload.ListenPacket(network, address)
		if err != nil {
			return "", err
		}
		d.closers = append(d.closers, u)
		go serveUDP(u)
		return how(u) + " " + u.LocalAddr().String(), nil
	}
	l, err := onload.Listen(network, address)
	if err != nil {
		return "", err
	}
	d.closers = append(d.closers, l)
	go serveTCP(l)
	return how(l) + " " + l.Addr().String(), nil
}

// how says in a word who carries v.
func how(v any) string {
	switch p := onload.PathOf(v); {
	case !p.Accelerated:
		return "kernel:" + strings.ReplaceAll(p.Reason, " ", "-")
	case p.Broker != "":
		return "broker"
	}
	return "own"
}

// signalContext ends with SIGINT.
func signalContext() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt)
}

func number(s string) (n int) {
	_, _ = fmt.Sscan(s, &n)
	return n
}
