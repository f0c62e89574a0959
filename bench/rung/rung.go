// Package rung holds the networks that are compared.
package rung

import (
	"fmt"

	"github.com/onload-go/onload/bench/gvisor"
	"github.com/onload-go/onload/bench/load"
	"github.com/onload-go/onload/driver/afxdp"
	onload "github.com/onload-go/onload/net"
)

// The kinds of an end.
const (
	Net        = "net"     // package net, the kernel's defaults
	Tuned      = "tuned"   // package net with SO_BUSY_POLL
	Spin       = "spin"    // raw system calls on sockets that never block
	Latency    = "latency" // onload, by profile
	Balanced   = "balanced"
	Throughput = "throughput"
	Frames     = "frames"     // onload, latency, segmentation offload off
	GVisor     = "gvisor"     // its netstack over AF_XDP
	GVisorGSO  = "gvisor-gso" // over AF_PACKET with GSO and GRO
	Raw        = "raw"        // frames over AF_XDP, no stack
	RawCopy    = "raw-copy"   // the same, copying payloads
)

// Rung names the network of each end, and its settings.
type Rung struct {
	Name           string
	Client, Server string // kinds
	Free           bool   // not pinned to a processor
	NoOffload      bool   // on a link without TSO, GSO, GRO and checksum offload
	Doc            string
}

// All lists the rungs from the floor up.
func All() []Rung {
	return []Rung{
		{Name: "raw", Client: Raw, Server: Raw, Doc: "frames between two AF_XDP sockets that spin, no stack: the floor"},
		{Name: "raw-copy", Client: RawCopy, Server: RawCopy, Doc: "as raw, with payloads copied from and to memory and summed on the way: the floor of a socket"},
		{Name: "net", Client: Net, Server: Net, Doc: "Go's net, a processor for each end"},
		{Name: "net-free", Client: Net, Server: Net, Free: true, Doc: "Go's net, both ends wherever the kernel puts them"},
		{Name: "net-nooffload", Client: Net, Server: Net, NoOffload: true, Doc: "as net, on a link without TSO, GSO, GRO and checksum offload"},
		{Name: "tuned", Client: Tuned, Server: Tuned, Doc: "as net, with SO_BUSY_POLL, SO_PREFER_BUSY_POLL and TCP_QUICKACK"},
		{Name: "spin", Client: Spin, Server: Spin, Doc: "kernel sockets that never block, raw system calls in a loop: what the kernel itself can do"},
		{Name: "latency", Client: Latency, Server: Latency, Doc: "onload, profile latency"},
		{Name: "balanced", Client: Balanced, Server: Balanced, Doc: "onload, profile balanced"},
		{Name: "throughput", Client: Throughput, Server: Throughput, Doc: "onload, profile throughput"},
		{Name: "onload-net", Client: Net, Server: Latency, Doc: "onload (latency) serves an unchanged client of Go's net"},
		{Name: "net-onload", Client: Latency, Server: Net, Doc: "an onload client (latency) of a server of Go's net"},
		{Name: "frames", Client: Frames, Server: Frames, Doc: "as latency, without segmentation offload: frame by frame"},
		{Name: "frames-net", Client: Net, Server: Frames, NoOffload: true, Doc: "a server of rung frames, a client of Go's net, on the link of net-nooffload"},
		{Name: "net-frames", Client: Frames, Server: Net, NoOffload: true, Doc: "a client of rung frames, a server of Go's net, on the link of net-nooffload"},
		{Name: "gvisor", Client: GVisor, Server: GVisor, Doc: "gVisor's netstack over AF_XDP, native mode"},
		{Name: "gvisor-gso", Client: GVisorGSO, Server: GVisorGSO, Doc: "gVisor's netstack over AF_PACKET with GSO and GRO"},
	}
}

// Config has the parameters of Open.
type Config struct {
	Kind      string
	Interface string
	Mode      string // XDP: auto, native, generic
	// Congestion is that of the kernel's TCP; empty is the machine's default.
	Congestion string
	Host       gvisor.Host // for gVisor's
	MTU        int
	Bulk       bool // the workload is a stream
}

// ParseMode reads an XDP mode.
func ParseMode(s string) (afxdp.Mode, error) {
	for _, m := range []afxdp.Mode{afxdp.ModeAuto, afxdp.ModeNative, afxdp.ModeGeneric} {
		if m.String() == s {
			return m, nil
		}
	}
	return 0, fmt.Errorf("no XDP mode %q: there are auto, native and generic", s)
}

// Open makes the network of one end. The raw rung is none: see package raw.
func Open(c Config) (load.Network, error) {
	mode, err := ParseMode(c.Mode)
	if err != nil {
		return nil, err
	}
	profiles := map[string]onload.Profile{Latency: onload.Latency, Frames: onload.Latency, Balanced: onload.Balanced, Throughput: onload.Throughput}
	if p, ok := profiles[c.Kind]; ok {
		modes := map[afxdp.Mode]onload.Mode{afxdp.ModeNative: onload.ModeNative, afxdp.ModeGeneric: onload.ModeGeneric}
		cfg := onload.Config{Interfaces: []string{c.Interface}, Mode: modes[mode], Profile: p}
		if c.Kind == Frames {
			cfg.Offloads = onload.OffloadsChecksum
		}
		e, err := onload.New(cfg)
		if err != nil {
			return nil, err
		}
		return Engine{e}, nil
	}
	switch c.Kind {
	case Net:
		return kernel{congestion: c.Congestion}, nil
	case Tuned:
		return kernel{congestion: c.Congestion, busyPoll: true}, nil
	case Spin:
		return spin{c.Congestion}, nil
	case GVisor:
		return network(gvisor.OverXDP(c.Host, c.Interface, c.Bulk))
	case GVisorGSO:
		return network(gvisor.OverPacket(c.Host, c.Interface, c.MTU))
	}
	return nil, fmt.Errorf("no kind of end %q", c.Kind)
}

// network keeps a nil out of the interface.
func network(n *gvisor.Network, err error) (load.Network, error) {
	if err != nil {
		return nil, err
	}
	return n, nil
}

// TwoProcs reports whether a kind wants GOMAXPROCS=2 even on one processor.
// gVisor's reader blocks in ppoll with the scheduler's P, and the goroutine that
// it woke waits for another P: with one it would be four times slower.
func TwoProcs(kind string) bool { return kind == GVisor || kind == GVisorGSO }
