package lab

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"syscall"
)

// Cmd is an exec.Cmd whose process runs in a namespace and is killed when this
// process ends, whatever ends it. Start, Run, Output and CombinedOutput are
// its own: do not call those of the embedded Cmd, which know no namespace.
type Cmd struct {
	*exec.Cmd
	ns *NS
}

// Command returns a Cmd that will run name in the namespace.
func (ns *NS) Command(name string, args ...string) *Cmd {
	return ns.cmd(exec.Command(name, args...))
}

// CommandContext is Command with a context that kills the process.
func (ns *NS) CommandContext(ctx context.Context, name string, args ...string) *Cmd {
	return ns.cmd(exec.CommandContext(ctx, name, args...))
}

func (ns *NS) cmd(c *exec.Cmd) *Cmd {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return &Cmd{c, ns}
}

// Start starts the process. The caller waits for it, and NS.Close kills it.
func (c *Cmd) Start() error {
	// Pdeathsig strikes when the starting thread ends, hence Spawn.
	if err := c.ns.h.Spawn(c.Cmd.Start); err != nil {
		return err
	}
	c.ns.mu.Lock()
	c.ns.cmds = append(c.ns.cmds, c.Cmd)
	c.ns.mu.Unlock()
	return nil
}

// Run starts the process and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the process and returns its standard output. As with exec.Cmd,
// the error carries the standard error if that went nowhere else.
func (c *Cmd) Output() ([]byte, error) {
	if c.Stdout != nil {
		return nil, errors.New("lab: Stdout already set")
	}
	var out, msgs bytes.Buffer
	c.Stdout = &out
	capture := c.Stderr == nil
	if capture {
		c.Stderr = &msgs
	}
	err := c.Run()
	if ee := (*exec.ExitError)(nil); capture && errors.As(err, &ee) {
		ee.Stderr = msgs.Bytes()
	}
	return out.Bytes(), err
}

// CombinedOutput runs the process and returns all that it wrote.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, errors.New("lab: Stdout or Stderr already set")
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}
