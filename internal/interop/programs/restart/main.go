// Command restart is a web server that a newer process replaces, by what others use for
// that: tableflip, a restart as in facebook's grace, or sockets of systemd's.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"github.com/cloudflare/tableflip"
	"github.com/coreos/go-systemd/v22/activation"
)

func main() {
	var err error
	switch os.Args[1] {
	case "tableflip":
		err = byTableflip(os.Args[2])
	case "grace":
		err = byGrace(os.Args[2])
	case "systemd":
		err = bySystemd()
	default:
		err = errors.New("usage: restart tableflip ADDRESS | restart grace ADDRESS | restart systemd")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// server says which process it is.
type server struct {
	http.Server
	open   sync.WaitGroup // connections
	served sync.WaitGroup // listeners
}

func newServer() *server {
	s := new(server)
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "process %d", os.Getpid())
	})
	s.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.open.Add(1)
			// Close waits until the client has the answer: what a process has not sent
			// when it ends is lost with it.
			_ = c.(*net.TCPConn).SetLinger(60)
		case http.StateClosed:
			s.open.Done()
		}
	}
	return s
}

func (s *server) serve(ln net.Listener) {
	s.served.Go(func() { _ = s.Serve(ln) })
}

// end answers the requests of all clients that have been accepted. Shutdown would close
// connections whose request comes after it.
func (s *server) end(l ...net.Listener) {
	for _, ln := range l {
		_ = ln.Close()
	}
	s.served.Wait()
	s.open.Wait()
}

// byTableflip replaces the process on SIGHUP, and ends it on SIGTERM.
func byTableflip(address string) error {
	upg, err := tableflip.New(tableflip.Options{})
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM)
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				upg.Stop()
			} else if err := upg.Upgrade(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	ln, err := upg.Listen("tcp", address)
	if err != nil {
		return err
	}
	s := newServer()
	s.serve(ln)
	if err := upg.Ready(); err != nil {
		return err
	}
	<-upg.Exit()
	s.end(ln)
	return nil
}

// byGrace replaces the process on SIGHUP: the new one gets the listener as descriptor 3,
// and ends the old one by SIGTERM when it serves.
func byGrace(address string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM)
	const inherits = "RESTART_INHERITS"
	var ln net.Listener
	var err error
	child := os.Getenv(inherits) != ""
	if child {
		f := os.NewFile(3, "listener")
		ln, err = net.FileListener(f)
		_ = f.Close()
	} else {
		ln, err = net.Listen("tcp", address)
	}
	if err != nil {
		return err
	}
	s := newServer()
	s.serve(ln)
	if child {
		if err := syscall.Kill(os.Getppid(), syscall.SIGTERM); err != nil {
			return err
		}
	}
	for sig := range signals {
		if sig == syscall.SIGTERM {
			break
		}
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			return err
		}
		next := exec.Command(os.Args[0], os.Args[1:]...)
		next.Env = append(os.Environ(), inherits+"=yes")
		next.Stderr, next.ExtraFiles = os.Stderr, []*os.File{f}
		err = next.Start()
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	s.end(ln)
	return nil
}

// bySystemd serves the sockets that it was started with until SIGTERM.
func bySystemd() error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	l, err := activation.Listeners()
	if err != nil || len(l) == 0 {
		return fmt.Errorf("%d sockets, %v", len(l), err)
	}
	s := newServer()
	for _, ln := range l {
		s.serve(ln)
	}
	<-signals
	s.end(l...)
	return nil
}
