// Command both asks an echo server by package net and by Onload's own package.
package main

import (
	"fmt"
	"io"
	"net"
	"os"

	onload "github.com/onload-go/onload/net"
)

func main() {
	if err := ask(net.JoinHostPort(os.Args[1], "7")); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// ask says the port of a connection of Onload's package, which is open until the
// input ends.
func ask(server string) error {
	plain, err := net.Dial("tcp", server)
	if err != nil {
		return err
	}
	defer plain.Close()
	own, err := onload.Dial("tcp", server)
	if err != nil {
		return err
	}
	defer own.Close()
	for _, c := range []net.Conn{plain, own} {
		b := make([]byte, 4)
		if _, err := io.WriteString(c, "echo"); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "echo" {
			return fmt.Errorf("%T: %q, %v", c, b, err)
		}
	}
	l, err := onload.Listen("tcp", ":0")
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println("ready", own.LocalAddr().(*net.TCPAddr).Port)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
