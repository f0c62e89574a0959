package main

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/miekg/dns"
)

// resolver is a session of DNS. Its targets are SERVER/NAME/ADDRESS: the name has this
// IPv4 address.
type resolver struct {
	client dns.Client
	conn   *dns.Conn
}

func openDNS(network string) func(*options, int) (session, error) {
	return func(o *options, _ int) (session, error) {
		r := &resolver{client: dns.Client{Net: network, Timeout: patience}}
		if network == "udp" {
			r.client.Timeout /= tries
		}
		server, _, _ := strings.Cut(o.targets[0], "/")
		var err error
		r.conn, err = r.client.Dial(server)
		return r, err
	}
}

func (r *resolver) ask(target string) error {
	f := strings.Split(target, "/")
	if len(f) != 3 {
		return fmt.Errorf("target %q is not SERVER/NAME/ADDRESS", target)
	}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(f[1]), dns.TypeA)
	m.SetEdns0(dns.DefaultMsgSize, false)
	answer, err := r.exchange(m)
	if err != nil {
		return err
	}
	for _, rr := range answer.Answer {
		if a, ok := rr.(*dns.A); ok && a.A.Equal(net.ParseIP(f[2])) {
			return nil
		}
	}
	return fmt.Errorf("%w: %v", errAnswer, answer)
}

const tries = 5

// exchange asks again when there is no answer: a datagram may be lost wherever a queue
// is full.
func (r *resolver) exchange(m *dns.Msg) (answer *dns.Msg, err error) {
	for range tries {
		answer, _, err = r.client.ExchangeWithConn(m, r.conn)
		var t net.Error
		if !errors.As(err, &t) || !t.Timeout() || r.client.Net != "udp" {
			break
		}
	}
	return answer, err
}

func (r *resolver) close() { _ = r.conn.Close() }
