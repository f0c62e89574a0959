package main

import (
	"fmt"
	"syscall"

	"github.com/onload-go/onload/internal/overlay"
)

// goCommand becomes the go command.
func goCommand(verb string) func(args []string) error {
	return func(args []string) error {
		c, err := overlay.Build(verb, args)
		if err != nil {
			return err
		}
		return syscall.Exec(c.Path, c.Args, c.Env)
	}
}

// goHelp is the help of a command that becomes the go command.
func goHelp(verb string) string {
	text := fmt.Sprintf("usage: onload %s [arguments of go %[1]s; see go help %[1]s]", verb)
	if verb == "run" || verb == "install" {
		text += fmt.Sprintf("\n\nPACKAGE@VERSION is possible too, as in go help %s.", verb)
	}
	return text
}

func env(args []string) error {
	text, err := overlay.Env(args)
	fmt.Print(text)
	return err
}
