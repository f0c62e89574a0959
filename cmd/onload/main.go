// Command onload is the tool of Onload for Go. See `onload help`.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/onload-go/onload/internal/operate"
	"github.com/onload-go/onload/internal/similar"
)

// command is a subcommand. Its error is printed, and the exit status is then 1.
type command struct {
	name, usage string
	help        string // empty: run answers -h itself
	run         func(args []string) error
}

var commands = []command{
	{"build", "build a program whose package net has sockets of ours", goHelp("build"), goCommand("build")},
	{"run", "run such a program", goHelp("run"), goCommand("run")},
	{"test", "test with such sockets", goHelp("test"), goCommand("test")},
	{"install", "install such a program", goHelp("install"), goCommand("install")},
	{"env", "print the settings of onload build for other build systems", "usage: onload env [arguments of go build]", env},
	{"vet", "find where onload's types cannot stand for package net's", vetHelp, vet},
	{"swap", "import onload instead of package net", swapHelp, swap},
	{"nic", "list NICs, give them to VFIO and back", nicUsage, nicCommand},
	{"capture", "write packets for Wireshark and tcpdump", captureUsage, captureCommand},
	{"version", "print the version of this program", versionHelp, version},
	{"doctor", "would a program be accelerated here, and if not, why", doctorUsage, doctorCommand},
	{"guardian", "(for programs that import onload) wait for their end", "usage: onload guardian (started by programs that import onload, see Config.Guardian; it does nothing by itself)", guard},
	{"broker", "share interfaces among processes without privileges", "", brokerCommand},
}

func init() {
	for _, c := range operate.Commands() {
		commands = append(commands, command{c.Name(), c.Short, "", func(args []string) error { return execute(c, args) }})
	}
	commands = append(commands,
		command{"completion", "print what makes a shell complete commands, options and PIDs", completionHelp, completion},
		command{"man", "write man pages", manHelp, man},
		command{cobra.ShellCompRequestCmd, "", "", func(args []string) error {
			return execute(commandTree(), append([]string{cobra.ShellCompRequestCmd}, args...))
		}},
		command{cobra.ShellCompNoDescRequestCmd, "", "", func(args []string) error {
			return execute(commandTree(), append([]string{cobra.ShellCompNoDescRequestCmd}, args...))
		}},
	)
}

// usageError is the error of arguments that no command has. The exit status is then 2.
type usageError string

func (e usageError) Error() string { return string(e) }

func isUsage(err error) bool { return errors.As(err, new(usageError)) }

func main() {
	err := onload(os.Args[1:], os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	if isUsage(err) {
		os.Exit(2)
	}
	os.Exit(1)
}

// onload runs a subcommand. Help goes to out.
func onload(args []string, out io.Writer) error {
	if len(args) == 0 {
		return usageError(overview())
	}
	name, rest := args[0], args[1:]
	if name == "help" || isHelp(name) {
		if len(rest) == 0 {
			fmt.Fprintln(out, overview())
			return nil
		}
		name, rest = rest[0], []string{"-h"}
	}
	names := []string{"help"}
	for _, c := range commands {
		switch {
		case c.name != name:
			names = append(names, c.name)
		case len(rest) > 0 && isHelp(rest[0]) && c.help != "":
			fmt.Fprintln(out, c.help)
			return nil
		default:
			return c.run(rest)
		}
	}
	if near := similar.To(name, names); near != "" {
		return usageError(fmt.Sprintf("onload: unknown command %s: did you mean %s?", name, near))
	}
	return usageError(fmt.Sprintf("onload: unknown command %s: see onload help", name))
}

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// overview lists the commands.
func overview() string {
	var b strings.Builder
	b.WriteString("usage: onload COMMAND [arguments]\n\n")
	for _, c := range commands {
		if c.usage != "" {
			fmt.Fprintf(&b, "  %-11s%s\n", c.name, c.usage)
		}
	}
	b.WriteString("\nonload help COMMAND says which arguments a command has.")
	return b.String()
}
