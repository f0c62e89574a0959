// Fetch puts the kernels of guests into the cache: those of the suites of Debian that
// are its arguments.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/onload-go/onload/internal/vmrun"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for _, suite := range os.Args[1:] {
		if err := vmrun.Fetch(ctx, suite); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
