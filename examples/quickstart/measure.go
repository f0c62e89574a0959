package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	onload "github.com/onload-go/onload/net"
)

// network is the part that the kernel and an engine have in common.
type network struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	listen func(network, address string) (net.Listener, error)
}

var kernelNetwork = network{new(net.Dialer).DialContext, net.Listen}

func engineNetwork(e *onload.Engine) network { return network{e.DialContext, e.Listen} }

// servers are the two that a client measures, with their addresses.
type servers struct {
	HTTP, TCP string
	Path      onload.Path

	listeners []net.Listener
}

func (s *servers) close() {
	for _, l := range s.listeners {
		l.Close()
	}
}

// serve starts them on ip.
func serve(n network, ip string) (*servers, error) {
	s := &servers{}
	for _, addr := range []*string{&s.HTTP, &s.TCP} {
		l, err := n.listen("tcp", net.JoinHostPort(ip, "0"))
		if err != nil {
			s.close()
			return nil, err
		}
		*addr = l.Addr().String()
		s.Path = onload.PathOf(l)
		s.listeners = append(s.listeners, l)
	}
	go http.Serve(s.listeners[0], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "hello")
	}))
	go echo(s.listeners[1])
	return s, nil
}

func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var b [64]byte
			for {
				n, err := c.Read(b[:])
				if err != nil {
					return
				}
				if _, err := c.Write(b[:n]); err != nil {
					return
				}
			}
		}()
	}
}

// results is what a client measured.
type results struct {
	HTTP, TCP quantiles
	Path      onload.Path
}

// quantiles of round trips.
type quantiles struct {
	N             int
	P50, P90, P99 time.Duration
}

// measure calls the servers, one after the other.
func measure(ctx context.Context, n network, httpAddr, tcpAddr string, each time.Duration) (r results, err error) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := n.dial(ctx, network, address)
			if err == nil {
				r.Path = onload.PathOf(c)
			}
			return c, err
		},
	}}
	defer client.CloseIdleConnections()
	url := "http://" + httpAddr + "/"
	r.HTTP, err = roundTrips(ctx, each, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	})
	if err != nil {
		return r, err
	}
	c, err := n.dial(ctx, "tcp", tcpAddr)
	if err != nil {
		return r, err
	}
	defer c.Close()
	b := []byte{1}
	r.TCP, err = roundTrips(ctx, each, func() error {
		if _, err := c.Write(b); err != nil {
			return err
		}
		_, err := io.ReadFull(c, b)
		return err
	})
	return r, err
}

// roundTrips calls once for a while, and discards the first tenth of the time.
func roundTrips(ctx context.Context, each time.Duration, once func() error) (quantiles, error) {
	samples := make([]time.Duration, 0, 1<<18)
	begin := time.Now()
	for start := begin; start.Sub(begin) < each && len(samples) < cap(samples); {
		if err := ctx.Err(); err != nil {
			return quantiles{}, err
		}
		if err := once(); err != nil {
			return quantiles{}, err
		}
		now := time.Now()
		if now.Sub(begin) > each/10 {
			samples = append(samples, now.Sub(start))
		}
		start = now
	}
	if len(samples) == 0 {
		return quantiles{}, errors.New("no round trip in the time given")
	}
	slices.Sort(samples)
	at := func(q float64) time.Duration { return samples[int(q*float64(len(samples)-1))] }
	return quantiles{len(samples), at(0.5), at(0.9), at(0.99)}, nil
}

// inProcess measures without privileges.
func inProcess(ctx context.Context, each time.Duration, profile string) ([]line, error) {
	cfg, err := engineConfig(profile)
	if err != nil {
		return nil, err
	}
	a, b, err := onload.NewMemoryPair(onload.MemoryConfig{Config: cfg}, onload.MemoryConfig{Config: cfg})
	if err != nil {
		return nil, err
	}
	defer a.Close()
	defer b.Close()
	var lines []line
	for _, tt := range []struct {
		way, profile   string
		client, server network
		ip             string
	}{
		{byKernel, "", kernelNetwork, kernelNetwork, "127.0.0.1"},
		{byOnload, profile, engineNetwork(a), engineNetwork(b), "10.0.0.2"},
	} {
		s, err := serve(tt.server, tt.ip)
		if err != nil {
			return nil, err
		}
		r, err := measure(ctx, tt.client, s.HTTP, s.TCP, each)
		s.close()
		if err != nil {
			return nil, err
		}
		lines = append(lines, line{tt.way, tt.way, tt.profile, r.Path, s.Path, r.HTTP, r.TCP})
	}
	return lines, nil
}
