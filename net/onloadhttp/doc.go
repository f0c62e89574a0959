// Package onloadhttp has HTTP servers restart without a failed request: the listener and
// the keep-alive connections of a net/http Server pass to its successor, which may be a
// new version of the program.
//
// The old process:
//
//	l, err := onloadhttp.NewListener(ln)
//	server := &http.Server{Handler: handler, ConnState: l.ConnState}
//	go server.Serve(l)
//	// when the successor has connected to a Unix socket:
//	err := l.Handoff(ctx, conn)
//	server.Shutdown(ctx)
//
// The new one:
//
//	l, err := onloadhttp.Takeover(conn)
//	server := &http.Server{Handler: handler, ConnState: l.ConnState}
//	server.Serve(l)
//
// A connection can leave only between two requests, since net/http keeps what it has
// parsed to itself: while a request is answered it stays, and leaves afterwards.
// Connections by TLS and HTTP/2 stay, because their keys and tables cannot leave; Shutdown
// ends them as it always does, and their clients come again.
package onloadhttp
