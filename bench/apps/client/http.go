package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"

	"github.com/quic-go/quic-go/http3"
)

// web is a session of HTTP of any version.
type web struct {
	client  *http.Client
	version int
	want    []byte
	done    func()
}

// anyServer trusts servers with certificates of their own making.
func anyServer() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

func openHTTP1(o *options, _ int) (session, error) {
	t := &http.Transport{TLSClientConfig: anyServer(), MaxConnsPerHost: 1, DisableCompression: true}
	return &web{&http.Client{Transport: t, Timeout: patience}, 1, o.want, t.CloseIdleConnections}, nil
}

func openHTTP2(o *options, _ int) (session, error) {
	t := &http.Transport{TLSClientConfig: anyServer(), ForceAttemptHTTP2: true, DisableCompression: true}
	return &web{&http.Client{Transport: t, Timeout: patience}, 2, o.want, t.CloseIdleConnections}, nil
}

func openHTTP3(o *options, _ int) (session, error) {
	t := &http3.Transport{TLSClientConfig: anyServer(), DisableCompression: true}
	return &web{&http.Client{Transport: t, Timeout: patience}, 3, o.want, func() { _ = t.Close() }}, nil
}

func (w *web) ask(url string) error {
	r, err := w.client.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	switch {
	case err != nil:
		return fmt.Errorf("%s, %d bytes, then %w", r.Status, len(body), err)
	case r.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s", r.Status, body[:min(len(body), 200)])
	case r.ProtoMajor != w.version:
		return fmt.Errorf("the answer came by %s", r.Proto)
	case w.want != nil && !bytes.Equal(body, w.want):
		return fmt.Errorf("%w: %d bytes", errAnswer, len(body))
	}
	return nil
}

func (w *web) close() { w.done() }
