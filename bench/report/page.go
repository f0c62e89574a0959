package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/onload-go/onload/bench/plot"
)

//go:embed page.css
var style string

// Page is the template of a page of figures, with the functions num, which
// formats a figure, and style, which is what goes into its element style.
func Page(text string) *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{"num": plot.Number,
		"style": func() template.CSS { return template.CSS(style) }}).Parse(text))
}

// Facts describe the machine, as lines of a table.
func (m *Machine) Facts() [][2]string {
	var on, off []string
	for name, v := range m.Offloads {
		if v {
			on = append(on, name)
		} else {
			off = append(off, name)
		}
	}
	slices.Sort(on)
	slices.Sort(off)
	facts := [][2]string{
		{"CPU", fmt.Sprintf("%s, %d processors", m.CPU, m.CPUs)}, {"kernel", m.Kernel}, {"Go", m.Go + " " + m.OS}, {"revision", m.Revision},
		{"interface", m.Driver}, {"pinning", m.Pinning},
		{"congestion control of the kernel", m.Congestion}, {"busy polling", m.BusyPoll}, {"GOGC, GOMEMLIMIT", m.GOGC + ", " + m.MemLimit},
		{"load before", m.Load}, {"offloads on", strings.Join(on, " ")}, {"offloads off", strings.Join(off, " ")},
		{"modules", strings.Join(m.Modules, ", ")}, {"remarks", strings.Join(m.Notes, "; ")},
	}
	return slices.DeleteFunc(facts, func(f [2]string) bool { return f[1] == "" })
}
