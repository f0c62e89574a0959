package overlay

import (
	"fmt"
	"slices"
	"strings"
)

// args are the arguments of a go command, taken apart as far as its packages, tags
// and overlay matter.
type args struct {
	dir      string   // -C
	tags     string   // -tags
	overlay  string   // -overlay
	list     []string // the flags that decide which packages and files there are
	before   []string // other flags, in order
	packages []string // or Go files
	after    []string // what follows the packages
}

// switches are the flags of build, run, test and install that take no value. All
// others take one, behind = or as the next argument.
var switches = strings.Fields(`a n v x work i race msan asan cover trimpath modcacherw linkshared buildvcs json
	c short failfast benchmem fullpath artifacts`)

// listing are the flags that go list takes too, and that matter for its answer.
var listing = strings.Fields("mod modfile race msan asan compiler")

// parseArgs takes apart what follows the verb.
func parseArgs(verb string, line []string) (*args, error) {
	a := &args{}
	for len(line) > 0 {
		arg := line[0]
		if arg == "-args" || arg == "--args" {
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			if a.packages != nil {
				break
			}
			n := packagesIn(verb, line)
			a.packages, line = line[:n:n], line[n:]
			if verb == "run" {
				break
			}
			continue
		}
		whole := line[:1]
		name, value, has := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		if !has && !slices.Contains(switches, strings.TrimPrefix(name, "test.")) {
			if len(line) < 2 {
				return nil, fmt.Errorf("onload: flag needs an argument: %s", arg)
			}
			whole, value = line[:2], line[1]
		}
		line = line[len(whole):]
		switch {
		case name == "C":
			a.dir = value
		case name == "tags":
			a.tags = value
		case name == "overlay":
			a.overlay = value
		case a.packages != nil:
			a.after = append(a.after, whole...)
		default:
			a.before = append(a.before, whole...)
		}
		if slices.Contains(listing, name) {
			a.list = append(a.list, whole...)
		}
	}
	a.after = append(a.after, line...)
	return a, nil
}

// packagesIn is how many of the arguments name packages: of run one package or the Go
// files, of all others what comes before the next flag.
func packagesIn(verb string, line []string) (n int) {
	for n < len(line) && !strings.HasPrefix(line[n], "-") {
		if verb == "run" && n > 0 && !strings.HasSuffix(line[n], ".go") || n > 0 && verb == "run" && !strings.HasSuffix(line[0], ".go") {
			break
		}
		n++
	}
	return n
}

// fromGOFLAGS fills what the environment's flags say and the arguments do not, and
// reports whether that was something.
func (a *args) fromGOFLAGS(goflags string) (more bool) {
	for _, f := range strings.Fields(goflags) {
		name, value, _ := strings.Cut(strings.TrimLeft(f, "-"), "=")
		switch {
		case name == "tags" && a.tags == "":
			a.tags, more = value, true
		case name == "overlay" && a.overlay == "":
			a.overlay, more = value, true
		}
	}
	return more
}

// files reports whether the packages are Go files.
func (a *args) files() bool {
	return len(a.packages) > 0 && strings.HasSuffix(a.packages[0], ".go")
}

// withTag is a list of build tags and ours.
func withTag(tags string) string {
	if tags == "" {
		return Tag
	}
	return tags + "," + Tag
}

// Tag is the build tag of programs that `onload build` has made. `go version -m`
// shows it.
const Tag = "onload"
