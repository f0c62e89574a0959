package guardian

import "golang.org/x/sys/unix"

// Elevated reports whether the process has rights that its starter need not have: those
// of its file, by setcap or set-user-ID. The environment is the starter's, and must not
// name a program that gets raw sockets.
func Elevated() bool {
	vector, err := unix.Auxv()
	return err != nil || secure(vector)
}

const atSecure = 23 // AT_SECURE, elf.h

// secure returns AT_SECURE of getauxval(3).
func secure(vector [][2]uintptr) bool {
	for _, v := range vector {
		if v[0] == atSecure {
			return v[1] != 0
		}
	}
	return false
}
