package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// progress is one line that changes, on a terminal; elsewhere a line now and
// then.
type progress struct {
	total, done int
	began       time.Time
	terminal    bool
	last        time.Time
}

func isTerminal() bool {
	_, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS)
	return err == nil
}

func (p *progress) show(what string) {
	left := ""
	if p.done > 5 {
		each := time.Since(p.began) / time.Duration(p.done)
		left = fmt.Sprintf(", %v left", (each * time.Duration(p.total-p.done)).Round(time.Second))
	}
	line := fmt.Sprintf("[%d/%d%s] %s", p.done, p.total, left, what)
	if p.terminal {
		fmt.Printf("\r\033[K%.110s", line)
	} else if time.Since(p.last) > 5*time.Second {
		p.last = time.Now()
		fmt.Println(line)
	}
}

// say prints a line that stays.
func (p *progress) say(s string) {
	if p.terminal {
		fmt.Print("\r\033[K")
	}
	fmt.Println(s)
}

func (p *progress) end() {
	if p.terminal {
		fmt.Print("\r\033[K")
	}
}
