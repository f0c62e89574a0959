package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/onload-go/onload/internal/operate"
)

// execute runs a command of cobra's. A signal ends its context.
func execute(c *cobra.Command, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c.SetArgs(args)
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError(fmt.Sprintf("onload %s: %v: see onload help %[1]s", c.Name(), err))
	})
	return c.ExecuteContext(ctx)
}

// commandTree is all commands as cobra has them, for completion and man pages. Those that read
// their arguments themselves have no flags there.
func commandTree() *cobra.Command {
	root := &cobra.Command{
		Use: "onload", Short: "tool of Onload for Go",
		Long:              "Onload for Go is a TCP/UDP stack in Go programs behind package net's API.",
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	own := operate.Commands()
	root.AddCommand(own...)
	known := map[string]bool{cobra.ShellCompRequestCmd: true, cobra.ShellCompNoDescRequestCmd: true}
	for _, c := range own {
		known[c.Name()] = true
	}
	for _, c := range commands {
		if known[c.name] {
			continue
		}
		one := &cobra.Command{Use: c.name, Short: c.usage, Long: c.help, DisableFlagParsing: true, Run: func(*cobra.Command, []string) {}}
		if c.name == "completion" {
			one.ValidArgs = shells
		}
		root.AddCommand(one)
	}
	return root
}

var shells = []string{"bash", "fish", "zsh"}

const completionHelp = `usage: onload completion bash|fish|zsh

For bash: onload completion bash >/etc/bash_completion.d/onload
For zsh:  onload completion zsh >"${fpath[1]}/_onload"
For fish: onload completion fish >~/.config/fish/completions/onload.fish`

func completion(args []string) error {
	if len(args) != 1 {
		return usageError(completionHelp)
	}
	switch root := commandTree(); args[0] {
	case "bash":
		return root.GenBashCompletionV2(os.Stdout, true)
	case "fish":
		return root.GenFishCompletion(os.Stdout, true)
	case "zsh":
		return root.GenZshCompletion(os.Stdout)
	}
	return usageError(completionHelp)
}

const manHelp = `usage: onload man FOLDER

Writes the man pages onload.1, onload-ps.1 and so on, for instance to
/usr/local/share/man/man1`

func man(args []string) error {
	if len(args) != 1 {
		return usageError(manHelp)
	}
	if i, err := os.Stat(args[0]); err != nil || !i.IsDir() {
		return errors.Join(fmt.Errorf("%s is no folder", filepath.Clean(args[0])), err)
	}
	root := commandTree()
	root.DisableAutoGenTag = true // pages do not differ from day to day
	return doc.GenManTree(root, &doc.GenManHeader{Title: "ONLOAD", Section: "1", Source: "Onload for Go", Manual: "Onload for Go"}, args[0])
}
