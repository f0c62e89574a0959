// Command client sends its standard input to an echo server, line by line, and
// prints what comes back and how long it took.
//
//	echo hello | go run ./examples/echo/client -interface eth0 -addr 192.0.2.1:7777
//
// See the server for privileges and settings.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	onload "github.com/onload-go/onload/net"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:7777", "address of the server")
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
	c, err := engine.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Printf("connected to %s by %v\n", c.RemoteAddr(), onload.PathOf(c))

	answers := bufio.NewReader(c)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		start := time.Now()
		if _, err := fmt.Fprintln(c, lines.Text()); err != nil {
			return err
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		fmt.Printf("%s (%v)\n", strings.TrimSpace(answer), time.Since(start).Round(100*time.Nanosecond))
	}
	return nil
}
