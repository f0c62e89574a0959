package engine

import (
	"strings"

	"github.com/onload-go/onload/internal/stack"
)

// Path says how the packets of a socket travel. Package onload has the same struct,
// and describes each field there.
type Path struct {
	Accelerated bool
	Interface   string
	Driver      string
	Mode        string
	ZeroCopy    bool
	CopyReason  string
	NAPI        string
	TSO         int
	Broker      string

	Reason string
}

// String is the path in words, in one line.
func (p Path) String() string {
	if !p.Accelerated {
		return "kernel (" + strings.ReplaceAll(p.Reason, "\n", "; ") + ")"
	}
	copied := "copy"
	if p.ZeroCopy {
		copied = "zero-copy"
	}
	if p.TSO > 0 {
		copied += ", segmentation offload"
	}
	if p.Broker != "" {
		copied += ", by a broker's link"
	}
	return p.Interface + " (" + p.Driver + ", " + p.Mode + ", " + copied + ")"
}

// PathOf returns the path by all working links of those stacks, of which there is
// at least one.
func PathOf(ss ...*stack.Stack) Path {
	var p pathMaker
	seen := map[int]bool{} // stacks of a team have the same links
	for _, s := range ss {
		for _, l := range s.Links() {
			if !seen[l] {
				p.add(s, l)
			}
			seen[l] = true
		}
	}
	return p.path()
}

// PathBy is the path by one link of a stack.
func PathBy(s *stack.Stack, link int) Path {
	var p pathMaker
	p.add(s, link)
	return p.path()
}

// pathMaker puts the paths by several links together.
type pathMaker struct {
	Path
	names []string
	why   string // a link has been lost
}

func (p *pathMaker) add(s *stack.Stack, link int) {
	name, caps, ok := s.LinkCaps(link)
	if !ok {
		p.why = "packets leave by an interface that is not accelerated, through the kernel"
		return
	}
	if err := s.LinkErr(link); err != nil {
		p.why = err.Error()
		return
	}
	first := len(p.names) == 0
	p.names = append(p.names, name)
	p.Driver, p.Mode, p.NAPI = caps.Driver, caps.Mode, caps.NAPI
	if caps.CopyReason != "" {
		p.CopyReason = caps.CopyReason
	}
	if caps.Broker != "" {
		p.Broker = caps.Broker
	}
	p.ZeroCopy = caps.ZeroCopy && (first || p.ZeroCopy)
	if first || caps.TSO < p.TSO {
		p.TSO = caps.TSO
	}
}

func (p *pathMaker) path() Path {
	if len(p.names) == 0 {
		return Path{Reason: p.why}
	}
	p.Accelerated = true
	p.Interface = strings.Join(p.names, ",")
	return p.Path
}
