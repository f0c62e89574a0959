//go:build !amd64

package ring

// Expect says that f is about to be used from off on.
func (a *Arena) Expect(Frame, int) {}
