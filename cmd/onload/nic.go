package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/onload-go/onload/internal/nic"
)

const nicUsage = `usage: onload nic list
       onload nic bind [-group] [-force] NIC...
       onload nic unbind NIC...

A NIC is a PCI address such as 0000:01:00.0, or the name of an interface. bind takes it
from the kernel and gives it to vfio-pci, so that programs can map it: the interface is
gone for everybody else. unbind gives it back to the driver that had it`

// nicCommand lists NICs, binds them to vfio-pci and back.
func nicCommand(args []string) error {
	if len(args) == 0 {
		return errors.New(nicUsage)
	}
	flags := flag.NewFlagSet("onload nic "+args[0], flag.ExitOnError)
	flags.Usage = func() { fmt.Fprintln(flags.Output(), nicUsage); flags.PrintDefaults() }
	var group, force bool
	if args[0] == "bind" {
		flags.BoolVar(&group, "group", false, "bind all devices of the IOMMU group, which is isolated only as a whole")
		flags.BoolVar(&force, "force", false, "bind even what carries the default route or an SSH session")
	}
	_ = flags.Parse(args[1:]) // it exits
	m := nic.Host()
	switch {
	case args[0] == "list" && flags.NArg() == 0:
		return listNICs(m)
	case args[0] == "bind" && flags.NArg() > 0:
		return bindNICs(m, flags.Args(), group, force)
	case args[0] == "unbind" && flags.NArg() > 0:
		return unbindNICs(m, flags.Args())
	}
	return errors.New(nicUsage)
}

func listNICs(m nic.Machine) error {
	all, err := m.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PCI\tDEVICE\tDRIVER\tINTERFACE\tGROUP\tIN THE GROUP WITH\tAF_XDP\tVFIO")
	for _, n := range all {
		vfio, _ := n.VFIO()
		var others []string
		for _, o := range n.Others {
			others = append(others, o.Address)
		}
		id := "-"
		if n.Address != "" {
			id = n.ID.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", cmp.Or(n.Address, "-"), id, cmp.Or(n.Driver, "-"),
			orDash(n.Interfaces), cmp.Or(n.Group, "-"), orDash(others), n.AFXDP(), vfio)
	}
	return w.Flush()
}

func orDash(words []string) string { return cmp.Or(strings.Join(words, ","), "-") }

func bindNICs(m nic.Machine, names []string, group, force bool) error {
	for _, name := range names {
		n, err := m.Find(name)
		if err != nil {
			return err
		}
		if why, ok := n.VFIO(); !ok && !force {
			return fmt.Errorf("%s: %s (-force binds it all the same)", n.Address, why)
		}
		todo := []nic.NIC{n}
		for _, o := range n.Others {
			if o.Driver == "" || o.Driver == nic.Driver {
				continue // the kernel isolates it
			}
			if !group {
				return fmt.Errorf("%s is in IOMMU group %s with %s, which %s has: -group binds both", n.Address, n.Group, o.Address, o.Driver)
			}
			other, err := m.At(o.Address)
			if err != nil {
				return err
			}
			todo = append(todo, other)
		}
		for _, d := range todo {
			carries, err := nic.Carries(d.Interfaces)
			if err != nil {
				return err
			}
			if carries != "" && !force {
				return fmt.Errorf("%s (%s) carries %s, which would be lost (-force binds it all the same)", d.Address, strings.Join(d.Interfaces, ","), carries)
			}
		}
		for _, d := range todo {
			if err := m.Bind(d); err != nil {
				return err
			}
			fmt.Printf("%s: bound to %s; for another user: chown USER /dev/vfio/%s\n", d.Address, nic.Driver, d.Group)
		}
	}
	return nil
}

func unbindNICs(m nic.Machine, names []string) error {
	for _, name := range names {
		n, err := m.Find(name)
		if err != nil {
			return err
		}
		if err := m.Unbind(n); err != nil {
			return err
		}
		now, err := m.At(n.Address)
		if err != nil {
			return err
		}
		fmt.Printf("%s: given back to driver %s, interface %s\n", n.Address, cmp.Or(now.Driver, "-"), orDash(now.Interfaces))
	}
	return nil
}
