package program

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
)

var netHTTP = &Program{
	Name: "net/http",
	Doc:  "net/http, keep-alive, GET with an answer of 64 bytes",
	Serve: func(n *Network, host, _ string) (*Server, error) {
		return n.serve(host, (&http.Server{Handler: answer}).Serve)
	},
	Dial: func(n *Network, addr string, conns int) ([]Call, error) {
		return getters(conns, "http://"+addr+"/", 1, func() *http.Transport {
			return &http.Transport{DialContext: n.DialContext, MaxConnsPerHost: 1}
		})
	},
}

var netHTTPS = &Program{
	Name:  "TLS",
	Doc:   "net/http over TLS 1.3, HTTP/1.1",
	Serve: serveTLS("http/1.1"),
	Dial: func(n *Network, addr string, conns int) ([]Call, error) {
		return getters(conns, "https://"+addr+"/", 1, func() *http.Transport {
			return &http.Transport{DialContext: n.DialContext, MaxConnsPerHost: 1, TLSClientConfig: clientTLS()}
		})
	},
}

var http2 = &Program{
	Name:  "HTTP/2",
	Doc:   "net/http, HTTP/2 over TLS 1.3, one stream at a time on each connection",
	Serve: serveTLS("h2"),
	Dial: func(n *Network, addr string, conns int) ([]Call, error) {
		return getters(conns, "https://"+addr+"/", 2, func() *http.Transport {
			return &http.Transport{DialContext: n.DialContext, ForceAttemptHTTP2: true, TLSClientConfig: clientTLS()}
		})
	},
}

var answer = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write(payload) // a client that has gone needs no answer
})

// getters have a connection each: a Transport of their own.
func getters(conns int, url string, major int, transport func() *http.Transport) ([]Call, error) {
	return each(conns, func() (Call, error) {
		c := &http.Client{Transport: transport()}
		return func() error { return get(c, url, major) }, nil
	})
}

func get(c *http.Client, url string, major int) error {
	r, err := c.Get(url)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(r.Body)
	r.Body.Close()
	switch {
	case err != nil:
		return err
	case r.StatusCode != http.StatusOK || len(b) != Payload:
		return fmt.Errorf("%s, %d bytes: %.200s", r.Status, len(b), bytes.TrimSpace(b))
	case r.ProtoMajor != major:
		return fmt.Errorf("spoke %s, not HTTP/%d", r.Proto, major)
	}
	return nil
}

func serveTLS(proto string) func(*Network, string, string) (*Server, error) {
	return func(n *Network, host, _ string) (*Server, error) {
		cert, err := selfSigned(host)
		if err != nil {
			return nil, err
		}
		s := &http.Server{Handler: answer, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{proto}}}
		return n.serve(host, func(l net.Listener) error { return s.ServeTLS(l, "", "") })
	}
}
