package overlay

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// rule is one change to a file of package net.
type rule struct {
	name  string // for errors
	file  string
	sites int // that it has to meet
	apply func(*source) (met int)
}

// rules: netFD's field pfd gets a type that embeds poll.FD and shadows its methods
// (std/net_linux.go.txt); what opens descriptors goes through ours; where net hands
// out a *poll.FD, that is the kernel's or nothing.
var rules = []rule{
	{"the type of netFD.pfd", "fd_posix.go", 1, fieldType("netFD", "pfd", "poll.FD", "onloadFD")},
	{"the descriptor of newFD", "fd_unix.go", 1, wrapDescriptor},
	{"netFD.accept", "fd_unix.go", 1, rename("*netFD", "accept", "kernelAccept")},
	{"socket", "sock_posix.go", 1, rename("", "socket", "kernelSocket")},
	{"newFileFD", "file_posix.go", 1, rename("", "newFileFD", "kernelFileFD")},
	{"rawConn.PollFD", "rawconn.go", 1, replaceExpr("&c.fd.pfd", "c.fd.pfd.kernel()")},
	{"splice", "splice_linux.go", 2, renameCall("pollSplice", "onloadSplice")},
	{"sendfile", "sendfile.go", 1, renameCall("poll.SendFile", "onloadSendFile")},
}

// fieldType changes the type of a field of a struct.
func fieldType(structure, field, from, to string) func(*source) int {
	return func(s *source) (met int) {
		ast.Inspect(s.tree, func(n ast.Node) bool {
			t, ok := n.(*ast.TypeSpec)
			if !ok || t.Name.Name != structure {
				return true
			}
			st, ok := t.Type.(*ast.StructType)
			if !ok {
				return false
			}
			for _, f := range st.Fields.List {
				if len(f.Names) == 1 && f.Names[0].Name == field && s.textOf(f.Type) == from {
					s.replace(f.Type, to)
					met++
				}
			}
			return false
		})
		return met
	}
}

// wrapDescriptor makes the value of the key pfd in newFD one of the new type.
func wrapDescriptor(s *source) (met int) {
	for _, f := range s.funcs("", "newFD") {
		ast.Inspect(f, func(n ast.Node) bool {
			kv, ok := n.(*ast.KeyValueExpr)
			if !ok || s.textOf(kv.Key) != "pfd" {
				return true
			}
			if lit, ok := kv.Value.(*ast.CompositeLit); ok && s.textOf(lit.Type) == "poll.FD" {
				s.replace(lit, "onloadFD{FD: "+s.textOf(lit)+"}")
				met++
			}
			return false
		})
	}
	return met
}

// rename gives a function another name; its callers then find the one of
// net_linux.go.txt.
func rename(recv, from, to string) func(*source) int {
	return func(s *source) (met int) {
		for _, f := range s.funcs(recv, from) {
			s.replace(f.Name, to)
			met++
		}
		return met
	}
}

// replaceExpr replaces a unary expression.
func replaceExpr(from, to string) func(*source) int {
	return func(s *source) (met int) {
		ast.Inspect(s.tree, func(n ast.Node) bool {
			if u, ok := n.(*ast.UnaryExpr); ok && s.textOf(u) == from {
				s.replace(u, to)
				met++
			}
			return true
		})
		return met
	}
}

// renameCall has calls of a function go to another one.
func renameCall(from, to string) func(*source) int {
	return func(s *source) (met int) {
		ast.Inspect(s.tree, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && s.textOf(c.Fun) == from {
				s.replace(c.Fun, to)
				met++
			}
			return true
		})
		return met
	}
}

// known are the methods and fields of poll.FD that net uses on Linux. One that is
// not here may be a new way past our sockets, which somebody has to look at.
var known = strings.Fields(`
	Accept Close Dup Init Sysfd WaitWrite
	Read ReadFrom ReadFromInet4 ReadFromInet6 ReadMsg ReadMsgInet4 ReadMsgInet6
	Write WriteTo WriteToInet4 WriteToInet6 WriteMsg WriteMsgInet4 WriteMsgInet6 Writev
	SetDeadline SetReadDeadline SetWriteDeadline Shutdown
	RawControl RawRead RawWrite
	GetsockoptInt SetsockoptInt SetsockoptLinger SetsockoptIPMreqn SetsockoptIPv6Mreq
	kernel`)

// checkUses reports what a file does with netFD's descriptor that no rule knows.
func checkUses(s *source) error {
	var err error
	ast.Inspect(s.tree, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.SelectorExpr:
			if y, ok := x.X.(*ast.SelectorExpr); ok && y.Sel.Name == "pfd" && !slices.Contains(known, x.Sel.Name) {
				err = fmt.Errorf("%s: the rule for uses of netFD.pfd does not know %s", s.fset.Position(x.Pos()), s.textOf(x))
			}
		case *ast.UnaryExpr:
			y, ok := x.X.(*ast.SelectorExpr)
			if ok && x.Op == token.AND && y.Sel.Name == "pfd" && !ourCall(s, x) {
				err = fmt.Errorf("%s: the rule for uses of netFD.pfd does not know %s", s.fset.Position(x.Pos()), s.textOf(x))
			}
		}
		return true
	})
	return err
}

// ourCall reports whether the expression is an argument of a function that a rule
// has brought in.
func ourCall(s *source, arg ast.Expr) (ours bool) {
	ast.Inspect(s.tree, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok && slices.Contains(c.Args, arg) {
			ours = strings.HasPrefix(s.textOf(c.Fun), "onload")
		}
		return !ours
	})
	return ours
}
