// Command http serves HTTP over onload, or fetches a URL over it.
//
//	go run ./examples/http -addr :8080                 # serve
//	go run ./examples/http -get http://192.0.2.1:8080  # fetch
//
// ONLOAD_INTERFACES says which interfaces are accelerated; without it the
// kernel carries everything.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	onload "github.com/onload-go/onload/net"
)

func main() {
	addr := flag.String("addr", ":8080", "address to serve on")
	url := flag.String("get", "", "URL to fetch instead")
	flag.Parse()
	var err error
	if *url != "" {
		err = get(*url)
	} else {
		err = serve(*addr)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func serve(addr string) error {
	ln, err := onload.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("http://%s by %v\n", ln.Addr(), onload.PathOf(ln))
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello %s, you came by %v\n", r.RemoteAddr, r.Context().Value(pathKey{}))
		}),
		// The path of the connection, for the handler.
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, pathKey{}, onload.PathOf(c))
		},
		ReadHeaderTimeout: 10 * time.Second,
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { srv.Close() })
	if err := srv.Serve(ln); err != http.ErrServerClosed {
		return err
	}
	return nil
}

type pathKey struct{}

func get(url string) error {
	client := &http.Client{Transport: &http.Transport{
		DialContext: new(onload.Dialer).DialContext,
	}}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
