package onload_test

import (
	"fmt"
	"io"
	"net/http"
	"os"

	onload "github.com/onload-go/onload/net"
)

// A server and a client, as with package net. Without ONLOAD_INTERFACES both
// take the kernel's way.
func Example() {
	ln, err := onload.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		io.WriteString(c, "hello")
		c.Close()
	}()

	c, err := onload.Dial("tcp", ln.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	io.Copy(os.Stdout, c)
	// Output: hello
}

// Two engines joined in memory need neither privileges nor an interface.
func ExampleNewMemoryPair() {
	a, b, err := onload.NewMemoryPair(onload.MemoryConfig{}, onload.MemoryConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close()
	defer b.Close()

	ln, err := b.Listen("tcp", "10.0.0.2:80")
	if err != nil {
		fmt.Println(err)
		return
	}
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "no packet left this process")
	}))

	client := http.Client{Transport: &http.Transport{DialContext: a.DialContext}}
	resp, err := client.Get("http://10.0.0.2/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
	// Output: no packet left this process
}

func ExamplePathOf() {
	ln, err := onload.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	fmt.Println(onload.PathOf(ln))
	// Output: kernel (no interface is configured (ONLOAD_INTERFACES))
}

// An engine of one's own, with the settings of the environment as far as the
// program does not decide them.
func ExampleNew() {
	cfg, err := onload.ConfigFromEnv()
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg.Profile = onload.Latency
	e, err := onload.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Close()
	for _, i := range e.Status() {
		fmt.Println(i.Name, i.Path)
	}
	// Output:
}

func ExampleSettings() {
	for _, s := range onload.Settings()[:4] {
		fmt.Printf("%s (%s): %s\n", s.Env, s.Default, s.Doc)
	}
	// Output:
	// ONLOAD_INTERFACES (none): interfaces whose traffic is taken from the kernel; auto: all that are up and run XDP natively
	// ONLOAD_STATIC (none): addresses, routes and name servers of interfaces that are PCI addresses, or the TAP device by which the kernel has them
	// ONLOAD_FALLBACK (on (in Config: off)): leave an interface that cannot be opened to the kernel, instead of failing
	// ONLOAD_NETNS (the process's own): network namespace of the TCP and UDP sockets
}
