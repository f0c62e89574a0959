package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// foreign lists names in backquotes that are not of this tree, and look as if
// they were: Go's, other programs', protocols'.
var foreign = []string{
	"Gosched", "RawConn.Read", // Go's
	"preadv",                                                                                                                // a system call
	"postgresql",                                                                                                            // a package of Debian
	"gtests/net/tcp", "tools/testing/selftests/net/packetdrill", "tcp_disorder_fin_in_FIN_WAIT", "net.inet.tcp", "fastopen", // scripts of others, and their folders
	"./server",                               // the reader's own program
	"./micro",                                // with -C bench
	"tcp/NAME.go", "driver/NAME", "ONLOAD_*", // to be filled in
	"h.Stats", // an expression
	"sudo", "retract",
	"allowPrivilegeEscalation", "socketLB.hostNamespaceOnly", "TimeoutStopSec", "GOMAXPROCS", // Kubernetes', Cilium's, systemd's, Go's
	"guest",         // a build tag
	"testdata/fuzz", // what a fuzzer makes beside itself
}

var (
	fence    = regexp.MustCompile("(?ms)^ *```.*?^ *```|^    \\S.*?$")
	span     = regexp.MustCompile("`([^`\n]+)`")
	testName = regexp.MustCompile(`\b(Test|Fuzz|Benchmark|Example)[A-Z]\w*\b`)
	relative = regexp.MustCompile(`(?:^|[\s(])\./([\w./-]*\w)`)
	dotted   = regexp.MustCompile(`^[A-Za-z]\w*(\.[A-Za-z]\w*)+$`)
	word     = regexp.MustCompile(`^[A-Za-z]\w*$`)
	constant = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$`) // the kernel's
	sysctl   = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)+$`)      // likewise
	fileLike = regexp.MustCompile(`^\.?[\w@*-]+\.(go|c|s|o|md|yml|yaml|mod|sum|txt|json|html)$`)
)

// ambiguous lists names that several files have, and are clear where they stand:
// the section, or the sentence, is about one folder.
var ambiguous = []string{
	"input.go", "poll.go", "spin.go", "socket.go", // the last of internal/packetdrill, the others of internal/stack
	"receive.go", "sim_test.go", // of tcp
}

// placed is a name with the file that it is said to be in.
var placed = regexp.MustCompile("`([^`\n ]+)`,? (?:\\(|in )`([^`\n ]+\\.go)`")

// check returns the names in a document's text that the tree does not have.
func (t *tree) check(text string) (wrong []string) {
	for _, m := range testName.FindAllString(text, -1) {
		if !t.words[m] {
			wrong = append(wrong, m)
		}
	}
	for _, m := range relative.FindAllStringSubmatch(text, -1) {
		if p := strings.TrimSuffix(m[1], "/..."); !t.files[p] && !slices.Contains(foreign, "./"+p) {
			wrong = append(wrong, "./"+m[1])
		}
	}
	prose := fence.ReplaceAllString(text, "")
	for _, m := range span.FindAllStringSubmatch(prose, -1) {
		if name := m[1]; !slices.Contains(foreign, name) && !t.exists(name) {
			wrong = append(wrong, name)
		}
	}
	for _, m := range placed.FindAllStringSubmatch(prose, -1) {
		name := strings.TrimSuffix(m[1], "()")
		if name = name[strings.LastIndexByte(name, '.')+1:]; word.MatchString(name) && t.words[name] && !t.strings[name] && !t.within[m[2]+" "+name] {
			wrong = append(wrong, m[1]+" in "+m[2])
		}
	}
	slices.Sort(wrong)
	return slices.Compact(wrong)
}

// exists reports whether the tree has what one pair of backquotes names. Text
// that names nothing (a command, an expression) passes.
func (t *tree) exists(name string) bool {
	name, _, _ = strings.Cut(name, "(…)")
	name = strings.TrimSuffix(name, "()")
	name = strings.NewReplacer("(*", "", ")", "").Replace(name)
	switch {
	case strings.ContainsAny(name, " =<>{}[]\"'$:,;&|%+~"):
		return true
	case t.strings[name]:
		return true
	case strings.HasPrefix(name, "ONLOAD_"):
		return false // else it were a string
	case strings.HasPrefix(name, "-"):
		return t.strings[strings.TrimLeft(name, "-")]
	case strings.HasPrefix(name, "/"):
		return true // of the machine
	case strings.Contains(name, "*"):
		return t.matches(name)
	case t.files[strings.TrimSuffix(name, "/")]:
		return true
	case fileLike.MatchString(name) && !strings.Contains(name, "/"):
		return t.base[name] == 1 || t.base[name] > 1 && slices.Contains(ambiguous, name)
	case strings.Contains(name, "/"):
		return t.part(name)
	case constant.MatchString(name), sysctl.MatchString(name):
		return true
	case dotted.MatchString(name):
		return t.qualified(strings.Split(name, "."))
	case word.MatchString(name):
		return t.words[name] || t.packages[name]
	}
	return true
}

// part reports whether name is a folder and a declared name of its package, as
// in internal/stack.Stack.
func (t *tree) part(name string) bool {
	slash := strings.LastIndexByte(name, '/')
	folder, rest, ok := strings.Cut(name[slash+1:], ".")
	return ok && t.files[name[:slash+1]+folder] && t.qualified(append([]string{folder}, strings.Split(rest, ".")...))
}

// matches reports whether a file fits a pattern: some path, or the last
// element of one.
func (t *tree) matches(pattern string) bool {
	for p := range t.files {
		if ok, err := filepath.Match(pattern, p); err == nil && ok {
			return true
		}
		if ok, err := filepath.Match(pattern, filepath.Base(p)); err == nil && ok {
			return true
		}
	}
	return false
}

// qualified reports whether a.b, or a.b.c, is declared: package and name, type
// and member, or both. Names of the standard library are taken on trust.
func (t *tree) qualified(parts []string) bool {
	if t.standard[parts[0]] && !t.packages[parts[0]] {
		return true
	}
	if len(parts) > 2 && t.packages[parts[0]] {
		return t.top[parts[0]+"."+parts[1]] && t.chain(parts[1:])
	}
	return t.top[parts[0]+"."+parts[1]] || t.chain(parts)
}

// chain reports whether each part is a member of the one before. Only the
// first is known as a type: further ones may be members of any.
func (t *tree) chain(parts []string) bool {
	if !t.has(parts[0], parts[1]) {
		return false
	}
	for _, p := range parts[2:] {
		if !t.words[p] {
			return false
		}
	}
	return true
}

// documents are all of the repository's but the changelog, whose entries speak
// of what was.
func documents(t *testing.T, root string) []string {
	var docs []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "bench/*.md", "bench/*/*.md"} {
		m, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, m...)
	}
	return slices.DeleteFunc(docs, func(p string) bool { return filepath.Base(p) == "CHANGELOG.md" })
}

func TestNamesExist(t *testing.T) {
	const root = "../.."
	tree, err := readTree(root)
	if err != nil {
		t.Fatal(err)
	}
	docs := documents(t, root)
	if len(docs) < 4 {
		t.Fatalf("only %q were found", docs)
	}
	for _, doc := range docs {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range tree.check(string(b)) {
			t.Errorf("%s names %s, which does not exist", strings.TrimPrefix(doc, root+"/"), name)
		}
	}
}
