package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/onload-go/onload/internal/dropin"
)

const vetHelp = `usage: onload vet [packages]

Finds where a program that imports onload instead of net gives a value of a type that
is onload's own, such as a *Dialer, to a package that wants net's. It prints the change
for each place. The program may import either. A program that is built by onload build
needs none of this.`

const swapHelp = `usage: onload swap [-n] [packages]

Imports onload, under the name net, in each file of the module's packages that imports net, with
the changes that onload vet prints. A file with a place that has to be changed by hand
stays as it is, and is an error. -n prints what would change.`

// patterns are the packages that args name, or the one of this folder.
func patterns(args []string) ([]string, error) {
	if len(args) == 0 {
		return []string{"."}, nil
	}
	if strings.HasPrefix(args[0], "-") {
		return nil, usageError(fmt.Sprintf("onload: unknown flag %s", args[0]))
	}
	return args, nil
}

func vet(args []string) error {
	pkgs, err := patterns(args)
	if err != nil {
		return err
	}
	places, err := dropin.Vet("", pkgs)
	if err != nil {
		return err
	}
	return found(places)
}

// found is an error if there are places.
func found(places []dropin.Place) error {
	var errs []error
	for _, p := range places {
		errs = append(errs, errors.New(p.String()))
	}
	return errors.Join(errs...)
}

func swap(args []string) error {
	show := len(args) > 0 && args[0] == "-n"
	if show {
		args = args[1:]
	}
	pkgs, err := patterns(args)
	if err != nil {
		return err
	}
	changes, left, err := dropin.Swap("", pkgs)
	if err != nil {
		return err
	}
	for _, c := range changes {
		fmt.Println(strings.Join(c.Lines, "\n"))
		if !show {
			if err := c.Write(); err != nil {
				return err
			}
		}
	}
	return found(left)
}
