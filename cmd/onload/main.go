// Command onload is the tool of Onload for Go. See `onload help`.
package main

import (
	"fmt"
	"os"
)

// command is a subcommand. Its error is printed, and the exit status is then 1.
type command struct {
	name, usage string
	run         func(args []string) error
}

var commands = []command{
	{"build", "build as `go build`, with sockets of ours in package net", goCommand("build")},
	{"run", "run as `go run`", goCommand("run")},
	{"test", "test as `go test`", goCommand("test")},
	{"install", "install as `go install`", goCommand("install")},
	{"nic", "list NICs, give them to VFIO and back", nicCommand},
	{"guardian", "(for programs that import onload) wait for their end", guard},
	{"broker", "share interfaces among processes without privileges", brokerCommand},
	{"env", "print the settings of `onload build` for other build systems", env},
}

func main() {
	if len(os.Args) > 1 {
		for _, c := range commands {
			if c.name != os.Args[1] {
				continue
			}
			if err := c.run(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	usage()
}

func usage() {
	fmt.Fprintf(os.Stderr, "usage: onload COMMAND [arguments]\n\n")
	for _, c := range commands {
		fmt.Fprintf(os.Stderr, "  %-9s%s\n", c.name, c.usage)
	}
	os.Exit(2)
}
