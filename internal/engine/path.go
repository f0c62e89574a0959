package engine

import (
	"strings"

	"github.com/onload-go/onload/internal/stack"
)

// Path is how the packets of a socket travel. Package onload has the same
// struct, where each field is described.
type Path struct {
	Accelerated bool
	Interface   string
	Driver      string
	Mode        string
	ZeroCopy    bool
	CopyReason  string
	NAPI        string
	TSO         int

	Reason string
}

// PathOf is the path by those stacks, at least one.
func PathOf(ss ...*stack.Stack) Path {
	p := Path{Accelerated: true, ZeroCopy: true, TSO: ss[0].Caps().TSO}
	var names []string
	for _, s := range ss {
		caps := s.Caps()
		names = append(names, s.Name())
		p.Driver, p.Mode, p.NAPI = caps.Driver, caps.Mode, caps.NAPI
		if caps.CopyReason != "" {
			p.CopyReason = caps.CopyReason
		}
		p.ZeroCopy = p.ZeroCopy && caps.ZeroCopy
		p.TSO = min(p.TSO, caps.TSO)
	}
	p.Interface = strings.Join(names, ",")
	return p
}
