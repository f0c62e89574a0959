package program

import (
	"fmt"
	"net"

	"github.com/valyala/fasthttp"
)

var fastHTTP = &Program{
	Name: "fasthttp",
	Doc:  "valyala/fasthttp on both sides, keep-alive, GET with an answer of 64 bytes",
	Serve: func(n *Network, host, _ string) (*Server, error) {
		return n.serve(host, (&fasthttp.Server{Handler: func(c *fasthttp.RequestCtx) { _, _ = c.Write(payload) }}).Serve)
	},
	Dial: func(n *Network, addr string, conns int) ([]Call, error) {
		url := "http://" + addr + "/"
		return each(conns, func() (Call, error) {
			c := &fasthttp.HostClient{Addr: addr, MaxConns: 1, Dial: func(addr string) (net.Conn, error) { return n.Dial("tcp", addr) }}
			var b []byte
			return func() error {
				status, body, err := c.Get(b, url)
				b = body
				if err == nil && (status != fasthttp.StatusOK || len(b) != Payload) {
					err = fmt.Errorf("status %d, %d bytes", status, len(b))
				}
				return err
			}, nil
		})
	},
}
