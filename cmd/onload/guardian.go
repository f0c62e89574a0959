package main

import (
	"errors"

	"github.com/onload-go/onload/internal/guardian"
)

// guard is the process that Config.Guardian starts.
func guard(args []string) error {
	if len(args) != 1 {
		return errors.New("onload guardian is started by programs that import onload (Config.Guardian); it does nothing by itself")
	}
	return guardian.Main(args[0])
}
