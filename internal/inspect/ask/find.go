// Package ask finds processes that answer questions about themselves (package
// internal/inspect), and asks them.
package ask

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/inspect"
)

// Process is one that answers. Its socket is kept open until Close.
type Process struct {
	PID, UID int    // as this process's namespaces have them
	Path     string // of the socket
	socket   int    // O_PATH
}

// Close gives the process's socket back.
func (p *Process) Close() error { return unix.Close(p.socket) }

// place is a folder that may have sockets, in the file system of some process.
type place struct {
	root int    // its root folder (O_PATH), or AT_FDCWD
	in   string // words for the root: "", or /proc/PID/root
	dir  string
	uid  int // whose the folder must be
}

// Find returns the processes that this one may ask, by PID: the user's own; all if this
// is root, in containers too. It removes sockets that dead processes have left.
func Find() ([]*Process, error) {
	uid := os.Geteuid()
	places := []place{}
	add := func(root int, in string) {
		if uid == 0 {
			for _, dir := range everybodys(root) {
				places = append(places, place{root, in, dir.dir, dir.uid})
			}
			return
		}
		for _, dir := range inspect.Folders(uid, cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), "/run/user/"+strconv.Itoa(uid))) {
			places = append(places, place{root, in, dir, uid})
		}
	}
	own, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/", Err: err}
	}
	defer unix.Close(own)
	add(own, "")
	others, err := otherRoots(own)
	for _, r := range others {
		defer unix.Close(r.fd)
		add(r.fd, r.path)
	}
	var found []*Process
	errs := []error{err}
	seen := map[inode]bool{}
	for _, p := range places {
		ps, err := p.processes(seen)
		found, errs = append(found, ps...), append(errs, err)
	}
	slices.SortFunc(found, func(a, b *Process) int { return cmp.Compare(a.PID, b.PID) })
	return found, errors.Join(errs...)
}

// Of returns the process with that PID. Its error says why it cannot be asked.
func Of(pid int) (*Process, error) {
	all, err := Find()
	var p *Process
	for _, f := range all {
		if f.PID == pid && p == nil {
			p = f
			continue
		}
		_ = f.Close()
	}
	if p != nil {
		return p, nil
	}
	var st unix.Stat_t
	switch serr := unix.Stat("/proc/"+strconv.Itoa(pid), &st); {
	case serr == unix.ENOENT:
		return nil, fmt.Errorf("process %d: %w", pid, unix.ESRCH)
	case serr == nil && os.Geteuid() != 0 && int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("process %d is user %d's, whom only that user and root may ask: %w", pid, st.Uid, unix.EPERM)
	}
	return nil, errors.Join(fmt.Errorf("process %d cannot be asked: it has no engine with an interface, ONLOAD_INSPECT=off is set, or its folder could not be made", pid), err)
}

type ownedDir struct {
	dir string
	uid int
}

// everybodys are the folders of all users below a root folder.
func everybodys(root int) []ownedDir {
	l := []ownedDir{{inspect.RootFolder, 0}}
	for _, name := range names(root, "/run/user") {
		if uid, err := strconv.Atoi(name); err == nil {
			l = append(l, ownedDir{inspect.RuntimeFolder(filepath.Join("/run/user", name)), uid})
		}
	}
	temp, prefix := filepath.Split(inspect.TempFolder(0))
	prefix = strings.TrimSuffix(prefix, "0")
	for _, name := range names(root, temp) {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			if uid, err := strconv.Atoi(rest); err == nil {
				l = append(l, ownedDir{filepath.Join(temp, name), uid})
			}
		}
	}
	return l
}

// below opens a path of another root folder. Its symbolic links stay below that folder:
// a container's may say anything.
func below(root int, path string, flags uint64) (int, error) {
	return unix.Openat2(root, path, &unix.OpenHow{
		Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

func names(root int, dir string) []string {
	fd, err := below(root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	l, _ := f.Readdirnames(-1)
	slices.Sort(l)
	return l
}

type otherRoot struct {
	fd   int
	path string
}

// otherRoots are the root folders of processes in other mount namespaces, each once. Only
// root may look there.
func otherRoots(own int) ([]otherRoot, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	type id struct {
		ns       string
		dev, ino uint64
	}
	idOf := func(fd int, proc string) (id, error) {
		ns, err := os.Readlink(proc + "/ns/mnt")
		if err != nil {
			return id{}, err
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		return id{ns, st.Dev, st.Ino}, err
	}
	self, err := idOf(own, "/proc/self")
	if err != nil {
		return nil, fmt.Errorf("containers are not looked at: %w", err)
	}
	known := map[id]bool{self: true}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var l []otherRoot
	for _, e := range procs {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		proc := "/proc/" + e.Name()
		fd, err := unix.Open(proc+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // it has ended, or is a thread of the kernel
		}
		if i, err := idOf(fd, proc); err != nil || known[i] {
			_ = unix.Close(fd)
		} else {
			known[i] = true
			l = append(l, otherRoot{fd, proc + "/root"})
		}
	}
	return l, nil
}

// processes are those with a socket in the place. seen are the sockets of places before:
// a folder may be mounted in many.
func (p *place) processes(seen map[inode]bool) (l []*Process, err error) {
	dir, err := below(p.root, p.dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, nil // nobody has made it
	}
	f := os.NewFile(uintptr(dir), p.dir)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return nil, err
	}
	if err := inspect.Owned(p.in+p.dir, &st, p.uid); err != nil {
		return nil, err
	}
	all, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range all {
		if _, ok := inspect.PID(name); !ok {
			continue
		}
		fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // it has just ended
		}
		if !fresh(fd, p.uid, seen) {
			_ = unix.Close(fd)
			continue
		}
		one := &Process{Path: p.in + filepath.Join(p.dir, name), socket: fd, UID: p.uid}
		c, err := one.dial()
		if err == nil {
			one.PID, err = peerPID(c)
			_ = c.Close()
		}
		switch {
		case err == nil:
			l = append(l, one)
			continue
		case errors.Is(err, unix.ECONNREFUSED) && !strings.HasPrefix(name, "."):
			_ = unix.Unlinkat(dir, name, 0)
		}
		_ = one.Close()
	}
	return l, nil
}

// inode names a file of the machine.
type inode struct{ dev, ino uint64 }

// fresh reports whether fd is a socket of uid's that is not in seen, and notes it there.
func fresh(fd, uid int, seen map[inode]bool) bool {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK || int(st.Uid) != uid {
		return false
	}
	i := inode{st.Dev, st.Ino}
	if seen[i] {
		return false
	}
	seen[i] = true
	return true
}
