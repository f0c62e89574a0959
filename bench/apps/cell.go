package main

import (
	"slices"

	"github.com/onload-go/onload/bench/apps/program"
	"github.com/onload-go/onload/bench/apps/result"
)

// capacityConns is how many connections the kernel's capacity is measured
// with, and an open loop has.
const capacityConns = 32

// shares are the open loops' rates as parts of the kernel's capacity.
var shares = map[string]float64{result.Open10: 0.1, result.Open50: 0.5, result.Open80: 0.8}

// quotaShare is the part of a processor that an end may use under quota.
const quotaShare = 0.2

// rung says which ends use onload, with which profile, and which build of
// this program they are.
type rung struct {
	Name           string
	Server, Client bool
	Profile        string // empty: none is set
	Build          string // of -child; empty: this one
}

// kernelRung is the rung that all others are compared with.
const kernelRung = "kernel"

var sides = []rung{
	{Name: kernelRung},
	{Name: "S", Server: true},
	{Name: "C", Client: true},
	{Name: "SC", Server: true, Client: true},
}

// rungs multiplies sides by profiles and builds. The kernel has neither.
func rungs(names, profiles []string, builds []build) (gs []rung) {
	for _, side := range sides {
		if side.Name == kernelRung {
			gs = append(gs, side)
			continue
		}
		if !slices.Contains(names, side.Name) {
			continue
		}
		for _, profile := range profiles {
			for _, b := range builds {
				g := side
				if profile != "" {
					g.Profile = profile
					g.Name += ":" + profile
				}
				if b.name != "" {
					g.Build = b.path
					g.Name += "@" + b.name
				}
				gs = append(gs, g)
			}
		}
	}
	return gs
}

// build is a build of this program.
type build struct{ name, path string }

// cells multiplies the chosen programs, conditions and loads; conns are the
// closed loop's.
func cells(programs []*program.Program, conds, loads []string, conns []int) (cs []result.Cell) {
	for _, cond := range conds {
		for _, l := range loads {
			for _, n := range connsOf(l, conns) {
				for _, p := range programs {
					cs = append(cs, result.Cell{Program: p.Name, Condition: cond, Load: l, Conns: n})
				}
			}
		}
	}
	return cs
}

func connsOf(load string, conns []int) []int {
	switch load {
	case result.Closed:
		return conns
	case result.EachMS:
		return []int{1}
	}
	return []int{capacityConns}
}
