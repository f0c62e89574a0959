// Command server answers every TCP connection with what it sends.
//
//	go run ./examples/echo/server -interface eth0 -addr :7777
//
// It needs root, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF. Without
// -interface the ONLOAD_* variables decide, and without those the kernel
// carries everything.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	onload "github.com/onload-go/onload/net"
)

func main() {
	addr := flag.String("addr", ":7777", "address to listen on")
	interfaces := flag.String("interface", "", "interfaces to accelerate, separated by commas, or auto")
	flag.Parse()
	if err := run(*addr, *interfaces); err != nil {
		log.Fatal(err)
	}
}

func run(addr, interfaces string) error {
	cfg, err := onload.ConfigFromEnv()
	if err != nil {
		return err
	}
	if interfaces != "" {
		cfg.Interfaces = strings.Split(interfaces, ",")
		cfg.Fallback = false
	}
	engine, err := onload.New(cfg)
	if err != nil {
		return err
	}
	defer engine.Close()
	ln, err := engine.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("listening on %s by %v\n", ln.Addr(), onload.PathOf(ln))

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		ln.Close()
	}()
	for {
		c, err := ln.Accept()
		if err != nil {
			return nil
		}
		fmt.Printf("%s by %v\n", c.RemoteAddr(), onload.PathOf(c))
		go func() {
			defer c.Close()
			if _, err := io.Copy(c, c); err != nil {
				log.Print(err)
			}
		}()
	}
}
