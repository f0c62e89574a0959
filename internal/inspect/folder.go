package inspect

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// RootFolder is where the sockets of root's processes are.
const RootFolder = "/run/onload/inspect"

// TempFolder is where the sockets of a user are who has no other folder.
func TempFolder(uid int) string { return "/tmp/onload-" + strconv.Itoa(uid) }

// RuntimeFolder is where the sockets of a user are whose $XDG_RUNTIME_DIR is dir.
func RuntimeFolder(dir string) string { return filepath.Join(dir, "onload") }

// Folders are those where a process of that user with that $XDG_RUNTIME_DIR may have its
// socket, the best one first.
func Folders(uid int, runtime string) (l []string) {
	switch {
	case uid == 0:
		l = append(l, RootFolder)
	case filepath.IsAbs(runtime):
		l = append(l, RuntimeFolder(runtime))
	}
	return append(l, TempFolder(uid))
}

// PID is the process that a socket's name speaks of, as its own PID namespace counts.
func PID(name string) (pid int, ok bool) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(name, "."), "-")
	pid, err := strconv.Atoi(first)
	return pid, err == nil && pid > 0 && strings.HasSuffix(rest, suffix)
}

const suffix = ".sock"

// makeFolder makes a folder for uid alone, unless it is there. One that others may write,
// or have made, is refused: /tmp is everybody's.
func makeFolder(dir string, uid int) error {
	if dir == RootFolder {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	return Owned(dir, &st, uid)
}

// Owned returns an error unless st, of dir, is a folder that uid alone may use.
func Owned(dir string, st *unix.Stat_t, uid int) error {
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is no folder", dir)
	case int(st.Uid) != uid:
		return fmt.Errorf("%s belongs to user %d, not to %d", dir, st.Uid, uid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("%s has mode %04o: others than its user may use it", dir, st.Mode&0o777)
	}
	return nil
}

// mostSwept bounds what a start does for others.
const mostSwept = 64

// sweep removes sockets whose processes have died, since nobody may ever call `onload ps`.
func sweep(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	names, _ := f.Readdirnames(mostSwept)
	_ = f.Close()
	for _, name := range names {
		if pid, ok := PID(name); ok && unix.Kill(pid, 0) == unix.ESRCH && Stale(filepath.Join(dir, name)) {
			_ = os.Remove(filepath.Join(dir, name))
		}
	}
}

// Stale reports whether nobody listens on the socket any more. A process that dies leaves
// its socket behind. PIDs do not show it: the folder may be shared with containers, which
// count their own.
func Stale(path string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) == unix.ECONNREFUSED
}
