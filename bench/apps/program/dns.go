package program

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// The question, and how long its answer may take: datagrams may be lost.
const (
	question = "a.example."
	patience = time.Second
	tries    = 5
)

var dnsUDP = &Program{
	Name: "DNS",
	Doc:  "miekg/dns over UDP, an A record from memory, one connected socket for each connection",
	Serve: func(n *Network, host, _ string) (*Server, error) {
		c, err := n.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, err
		}
		path, err := n.path(c)
		if err != nil {
			return nil, err
		}
		growBuffer(c)
		a, err := dns.NewRR(question + " 60 IN A 192.0.2.1")
		if err != nil {
			return nil, err
		}
		s := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.Answer = []dns.RR{a}
			_ = w.WriteMsg(m) // the client asks again for a lost answer
		})}
		go func() {
			if err := s.ActivateAndServe(); err != nil {
				panic(err)
			}
		}()
		return &Server{Addr: c.LocalAddr().String(), Path: path}, nil
	},
	Dial: func(n *Network, addr string, conns int) ([]Call, error) {
		client := &dns.Client{Timeout: patience}
		return each(conns, func() (Call, error) {
			c, err := n.Dial("udp", addr)
			if err != nil {
				return nil, err
			}
			conn := &dns.Conn{Conn: c}
			return func() error { return resolve(client, conn) }, nil
		})
	},
}

// growBuffer enlarges the buffer, as manuals of name servers advise: the
// kernel's default holds fewer datagrams than there are clients.
func growBuffer(c net.PacketConn) {
	if b, ok := c.(interface{ SetReadBuffer(int) error }); ok {
		_ = b.SetReadBuffer(4 << 20) // as much as there may be
	}
}

var lost atomic.Int64

// Lost is how many datagrams had no answer in time and were sent again.
func Lost() int64 { return lost.Load() }

func resolve(client *dns.Client, c *dns.Conn) error {
	for range tries {
		r, _, err := client.ExchangeWithConn(new(dns.Msg).SetQuestion(question, dns.TypeA), c)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			lost.Add(1)
			continue
		}
		if err == nil && len(r.Answer) != 1 {
			err = fmt.Errorf("%d answers", len(r.Answer))
		}
		return err
	}
	return fmt.Errorf("no answer to %d questions", tries)
}
