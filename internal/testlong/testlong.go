// Package testlong is the -long flag of this module's tests. Every package
// with tests imports it, so that `go test ./... -long` is understood by all.
package testlong

import "flag"

var long = flag.Bool("long", false, "run the heavy forms of the tests, which take many minutes")

// Enabled reports whether -long was given. As Pick it knows once the flags are read, so
// not yet in the variables of a package.
func Enabled() bool { return *long }

// Pick is heavy with -long, else plain.
func Pick[T any](plain, heavy T) T {
	if *long {
		return heavy
	}
	return plain
}
