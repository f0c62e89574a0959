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

func env(args []string) error {
	text, err := overlay.Env(args)
	fmt.Print(text)
	return err
}
