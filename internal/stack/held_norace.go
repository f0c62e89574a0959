//go:build !race

package stack

func (s *Stack) mustHold() {}
