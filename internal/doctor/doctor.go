// Package doctor says whether a program would be accelerated here, and if not, why, and
// what to type to mend it.
package doctor

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Severity is how much a finding costs.
type Severity string

const (
	Broken Severity = "broken" // nothing is accelerated, or not all that was asked for
	Slower Severity = "slower" // it works, and could be faster or keep more connections
	Note   Severity = "note"   // to know
)

// Finding is something that is not as it should be.
type Finding struct {
	ID       string   `json:"id"` // stable, such as "link-down"
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject,omitempty"` // an interface, a program, a variable
	Says     string   `json:"says"`              // one sentence
	// Type are commands that mend it, each by itself. Words in capitals are for the
	// reader to choose.
	Type []string `json:"type,omitempty"`
}

// Report is the findings, the worst first, and what was looked at.
type Report struct {
	Kernel     string      `json:"kernel"`
	Program    *Program    `json:"program,omitempty"`
	Interfaces []Interface `json:"interfaces"`
	Findings   []Finding   `json:"findings"`
	RoundTrip  *RoundTrip  `json:"round_trip,omitempty"`
}

// RoundTrip is the median of one-byte TCP round trips to a kernel peer on a veth pair of
// their own, in microseconds.
type RoundTrip struct {
	Kernel float64 `json:"kernel_us"`
	Onload float64 `json:"onload_us"`
}

// Interface is one that may be accelerated.
type Interface struct {
	Name        string `json:"name"`
	Driver      string `json:"driver"`
	Native      bool   `json:"native"`
	ZeroCopy    bool   `json:"zero_copy"`
	MultiBuffer bool   `json:"multi_buffer"`
	Queues      int    `json:"queues"`
	MTU         int    `json:"mtu"`
	Verdict     string `json:"verdict"`
}

// Config says what to look at.
type Config struct {
	Interface string   // only this one; empty: those of ONLOAD_INTERFACES, else all that are fit
	Path      string   // of an executable file; empty: none
	PID       int      // the process whose privileges and limits count; 0: this one, or the program's
	Environ   []string // with the settings; nil: os.Environ()
	Root      string   // stands for / where files of the machine are read; empty: /
}

// patient is what is being looked at.
type patient struct {
	Config
	Report
	links []string // names of interfaces
}

// Examine looks at everything. It runs in the network namespace of its thread, and changes
// nothing.
func Examine(c Config) Report {
	if c.Environ == nil {
		c.Environ = os.Environ()
	}
	p := &patient{Config: c}
	p.Interfaces, p.Findings = []Interface{}, []Finding{}
	p.settings()
	p.kernel()
	p.program()
	p.process()
	p.eachLink()
	p.host()
	p.firewall()
	p.Sort()
	return p.Report
}

// Sort puts the worst findings first.
func (r *Report) Sort() {
	rank := map[Severity]int{Broken: 0, Slower: 1, Note: 2}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(rank[a.Severity], rank[b.Severity]) })
}

// Has reports whether there is a finding with that ID.
func (r *Report) Has(id string) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.ID == id })
}

// Accelerated reports whether nothing stands in the way.
func (r *Report) Accelerated() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Broken })
}

// find adds a finding.
func (p *patient) find(s Severity, id, subject, says string, commands ...string) {
	p.Findings = append(p.Findings, Finding{ID: id, Severity: s, Subject: subject, Says: says, Type: commands})
}

// read returns a file of the machine without the space around it; empty where there is
// none.
func (p *patient) read(path string) string {
	b, _ := os.ReadFile(filepath.Join(cmp.Or(p.Root, "/"), path))
	return strings.TrimSpace(string(b))
}

// sysctl is the command that sets what /proc/sys/net/FAMILY/conf has for an interface. With
// slashes the name may have dots in it, as that of a VLAN has.
func sysctl(family, link, name string, value int) string {
	return fmt.Sprintf("sysctl -w net/%s/conf/%s/%s=%d", family, quoted(link), name, value)
}

// quoted is a word for a shell.
func quoted(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n'\"\\$`!*?[](){}<>|&;#~") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
