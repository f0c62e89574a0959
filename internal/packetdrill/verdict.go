package packetdrill

import (
	"errors"
	"fmt"
)

// Verdict says how a script ended.
type Verdict uint8

// The verdicts.
const (
	Pass Verdict = iota
	Fail
	Unsupported
)

func (v Verdict) String() string { return [...]string{"pass", "fail", "unsupported"}[v] }

// Result is the outcome of a script. Line and What are set unless it passed.
type Result struct {
	Verdict Verdict
	Line    int
	What    string
}

func (r Result) String() string {
	if r.Verdict == Pass {
		return "pass"
	}
	return fmt.Sprintf("%v: line %d: %s", r.Verdict, r.Line, r.What)
}

// unsupported is an error that names a feature that the runner, or the stack,
// does not have.
type unsupported string

func (u unsupported) Error() string { return string(u) }

func unsupportedf(format string, args ...any) error { return unsupported(fmt.Sprintf(format, args...)) }

func failf(format string, args ...any) error { return fmt.Errorf(format, args...) }

func result(line int, err error) Result {
	var u unsupported
	var p *Error
	switch {
	case err == nil:
		return Result{}
	case errors.As(err, &u):
		return Result{Unsupported, line, string(u)}
	case errors.As(err, &p):
		if p.Unsupported {
			return Result{Unsupported, p.Line, p.What}
		}
		return Result{Fail, p.Line, p.What}
	}
	return Result{Fail, line, err.Error()}
}
