package onloadhttp_test

import (
	"context"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	onload "github.com/onload-go/onload/net"
	"github.com/onload-go/onload/net/onloadhttp"
)

// A web server takes over from its predecessor, if there is one, and waits for its own
// successor. No request fails meanwhile, on new connections and on those that live.
func Example() {
	const path = "/run/web.sock"
	l, err := fromPredecessor(path)
	if err != nil {
		ln, err := onload.Listen("tcp", ":80")
		if err != nil {
			log.Fatal(err)
		}
		if l, err = onloadhttp.NewListener(ln); err != nil {
			log.Fatal(err)
		}
	}
	server := &http.Server{Handler: http.DefaultServeMux, ConnState: l.ConnState}
	go server.Serve(l)

	_ = os.Remove(path)
	successors, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		log.Fatal(err)
	}
	successors.SetUnlinkOnClose(false) // the path is the successor's by then
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		defer stop()
		successor, err := successors.AcceptUnix()
		if err != nil {
			log.Print(err)
			return
		}
		defer successor.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := l.Handoff(ctx, successor); err != nil {
			log.Print(err)
		}
	}()
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = server.Shutdown(ctx)
}

func fromPredecessor(path string) (*onloadhttp.Listener, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return onloadhttp.Takeover(c)
}
