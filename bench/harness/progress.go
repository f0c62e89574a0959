package harness

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Progress is one line that changes, on a terminal; elsewhere a line now and
// then.
type Progress struct {
	Total, Done int
	began       time.Time
	terminal    bool
	last        time.Time
}

// NewProgress starts now, with total steps to come.
func NewProgress(total int) *Progress {
	return &Progress{Total: total, began: time.Now(), terminal: isTerminal()}
}

func isTerminal() bool {
	_, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS)
	return err == nil
}

// Show names the step that runs now.
func (p *Progress) Show(what string) {
	left := ""
	if p.Done > 5 {
		each := time.Since(p.began) / time.Duration(p.Done)
		left = fmt.Sprintf(", %v left", (each * time.Duration(p.Total-p.Done)).Round(time.Second))
	}
	line := fmt.Sprintf("[%d/%d%s] %s", p.Done, p.Total, left, what)
	if p.terminal {
		fmt.Printf("\r\033[K%.110s", line)
	} else if time.Since(p.last) > 5*time.Second {
		p.last = time.Now()
		fmt.Println(line)
	}
}

// Say prints a line that stays.
func (p *Progress) Say(s string) {
	if p.terminal {
		fmt.Print("\r\033[K")
	}
	fmt.Println(s)
}

// End clears the line.
func (p *Progress) End() {
	if p.terminal {
		fmt.Print("\r\033[K")
	}
}
