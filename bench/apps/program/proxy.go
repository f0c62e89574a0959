package program

import (
	"net/http"
	"net/http/httputil"
	"net/url"
)

var reverseProxy = &Program{
	Name: "ReverseProxy",
	Doc:  "httputil.ReverseProxy between a net/http client and server of the kernel's; S: it listens by onload, C: it dials by onload",
	Serve: func(n *Network, host, upstream string) (*Server, error) {
		u, err := url.Parse("http://" + upstream)
		if err != nil {
			return nil, err
		}
		p := httputil.NewSingleHostReverseProxy(u)
		// As many idle connections as clients: net/http's default of 2 would
		// measure dialling.
		p.Transport = &http.Transport{DialContext: n.DialContext, MaxIdleConnsPerHost: 10_000}
		return n.serve(host, (&http.Server{Handler: p}).Serve)
	},
	Upstream: func(n *Network, host string) (*Server, error) { return netHTTP.Serve(n, host, "") },
	Dial:     netHTTP.Dial,
}
