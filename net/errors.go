package onload

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"syscall"
)

// Errors that net has under private names. Programs see their texts, and how
// errors.Is answers.
var (
	errMissingAddress = errors.New("missing address")
	errNoSuitableAddr = "no suitable address found"
	errMismatched     = "mismatched local address type"
)

// canceledError is the error of a dial whose context was cancelled.
type canceledError struct{}

func (canceledError) Error() string        { return "operation was canceled" }
func (canceledError) Is(target error) bool { return target == context.Canceled }

// timeoutError is the error of a dial whose deadline passed. net returns one of two
// errors, by chance; this one is both.
type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }
func (timeoutError) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}

// unsupportedError is errors.ErrUnsupported with a reason.
type unsupportedError string

func (e unsupportedError) Error() string { return string(e) }
func (unsupportedError) Unwrap() error   { return errors.ErrUnsupported }

const (
	errNoDescriptor = unsupportedError("onload: an accelerated connection has no descriptor")
)

// cause wraps a bare error of the stack as net does inside its OpError. call is
// the system call that net would have made.
func cause(call string, err error) error {
	switch e := err.(type) {
	case syscall.Errno:
		return &os.SyscallError{Syscall: call, Err: e}
	default:
		switch err {
		case context.Canceled:
			return canceledError{}
		case context.DeadlineExceeded:
			return timeoutError{}
		}
		return err
	}
}

// connectCause is cause for a dial from local: errors about that are bind's. A port that
// nobody named is not refused for lack of privileges, but its route may be prohibited.
func connectCause(err error, local netip.AddrPort) error {
	if err == syscall.EADDRINUSE || err == syscall.EACCES && local.Port() != 0 {
		return cause("bind", err)
	}
	return cause("connect", err)
}
