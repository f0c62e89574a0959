package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/broker"
	"github.com/onload-go/onload/internal/broker/nicshare"
	"github.com/onload-go/onload/internal/broker/policy"
	"github.com/onload-go/onload/internal/broker/wire"
)

const brokerUsage = `usage: onload broker -interfaces NAME[,NAME...] [-policy FILE] [flags]

It shares interfaces among processes that need no privilege: see docs/broker.md. SIGHUP reads
the policy again. SIGTERM ends the broker and leaves the links of its clients, whose packets
go on, for the next broker; SIGINT, or -remove, ends the links too.`

// brokerCommand runs a broker until a signal ends it.
func brokerCommand(args []string) error {
	flags := flag.NewFlagSet("onload broker", flag.ExitOnError)
	flags.Usage = func() { fmt.Fprintln(flags.Output(), brokerUsage); flags.PrintDefaults() }
	interfaces := flags.String("interfaces", "", "names of the interfaces to share, separated by commas")
	file := flags.String("policy", "/etc/onload/policy.toml", "who may use what")
	socket := flags.String("socket", wire.DefaultSocket, "where clients connect")
	pins := flags.String("pins", "/sys/fs/bpf/onload", "directory of a bpf filesystem, for what outlives the broker")
	mode := flags.String("mode", "auto", "where the XDP program runs: auto, native, generic")
	level := flags.String("log", "info", "debug, info, warn, error")
	remove := flags.Bool("remove", false, "end the links that an earlier broker has left, and exit")
	_ = flags.Parse(args) // it exits
	if flags.NArg() > 0 || *interfaces == "" {
		return errors.New("onload broker wants -interfaces and flags, no other arguments: see onload broker -h")
	}
	modes := map[string]nicshare.Mode{"auto": nicshare.ModeAuto, "native": nicshare.ModeNative, "generic": nicshare.ModeGeneric}
	m, ok := modes[*mode]
	if !ok {
		return fmt.Errorf("-mode: %q is neither auto, native nor generic", *mode)
	}
	log, err := brokerLog(*level)
	if err != nil {
		return err
	}
	names := strings.Split(*interfaces, ",")
	if *remove {
		var errs []error
		for _, name := range names {
			errs = append(errs, nicshare.Remove(nicshare.Config{Interface: name, PinDir: *pins, Log: log}))
		}
		return errors.Join(errs...)
	}
	p, err := policy.Load(*file)
	if err != nil {
		return err
	}
	b, err := broker.Open(broker.Config{
		Socket: *socket, Interfaces: names, PinDir: *pins, Policy: p, Mode: m, Log: log,
	})
	if err != nil {
		return err
	}
	return serveUntilSignal(b, *file, log)
}

// serveUntilSignal serves until SIGTERM or SIGINT.
func serveUntilSignal(b *broker.Broker, file string, log *zap.Logger) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx) }()
	for {
		select {
		case err := <-served:
			return errors.Join(err, b.Detach())
		case s := <-signals:
			switch s {
			case syscall.SIGHUP:
				if p, err := policy.Load(file); err != nil {
					log.Error("the policy stays as it was", zap.Error(err))
				} else {
					b.SetPolicy(p)
					log.Info("policy is read again", zap.String("file", file))
				}
			case syscall.SIGINT:
				stop()
				return errors.Join(<-served, b.Close())
			default:
				stop()
				return errors.Join(<-served, b.Detach())
			}
		}
	}
}

func brokerLog(level string) (*zap.Logger, error) {
	l, err := zap.ParseAtomicLevel(level)
	if err != nil {
		return nil, fmt.Errorf("-log: %w", err)
	}
	c := zap.NewProductionConfig()
	c.Level, c.Encoding, c.DisableStacktrace, c.DisableCaller = l, "console", true, true
	c.EncoderConfig = zap.NewDevelopmentEncoderConfig()
	return c.Build()
}
