package doctor

import (
	"fmt"
	"io"
	"strings"
)

// WriteText writes the report as a page.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Linux %s\n", r.Kernel)
	if p := r.Program; p != nil {
		words := []string{"no Go program"}
		if p.Go != "" {
			words = []string{p.Go, "without onload"}
			switch p.Onload {
			case "built":
				words[1] = "made by onload build"
			case "imported":
				words[1] = "imports onload " + p.Version
			}
		}
		if p.Static {
			words = append(words, "static")
		}
		fmt.Fprintf(&b, "%s: %s\n", p.Path, strings.Join(words, ", "))
	}
	for _, i := range r.Interfaces {
		how := "generic XDP"
		if i.Native {
			how = "native XDP"
		}
		if i.ZeroCopy {
			how += ", zero-copy"
		}
		if i.MultiBuffer {
			how += ", multi-buffer"
		}
		fmt.Fprintf(&b, "%s: %s (driver %s, %s, %d queues, MTU %d)\n", i.Name, i.Verdict, i.Driver, how, i.Queues, i.MTU)
	}
	if t := r.RoundTrip; t != nil {
		fmt.Fprintf(&b, "a TCP round trip on a veth pair of its own: %.1f us, the kernel's %.1f us\n", t.Onload, t.Kernel)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\n%-7s %s [%s]\n", f.Severity, f.Says, f.ID)
		for _, c := range f.Type {
			fmt.Fprintf(&b, "        $ %s\n", c)
		}
	}
	if len(r.Findings) == 0 {
		b.WriteString("\nNothing is wrong.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
