package nicshare

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// pins is the directory of an interface in a bpf filesystem. All files but
// steerPin and guardPin are maps.
type pins struct {
	dir  string
	lock *os.File
}

// steerPin is the bpf_link of the interface's program.
const steerPin = "steer"

// openPins opens the directory of the interface, and makes it if there is none. Only
// one process at a time has it.
func openPins(root, name string) (_ *pins, err error) {
	if err := bpffs(root); err != nil {
		return nil, err
	}
	p := &pins{dir: filepath.Join(root, name)}
	if err := os.Mkdir(p.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("nicshare: %w", err)
	}
	if p.lock, err = os.Open(p.dir); err != nil {
		return nil, fmt.Errorf("nicshare: %w", err)
	}
	if err := unix.Flock(int(p.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = p.lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = unix.EBUSY
		}
		return nil, fmt.Errorf("nicshare: another process has %s: %w", p.dir, err)
	}
	return p, nil
}

// bpffs makes sure that dir is a bpf filesystem that only root may enter.
func bpffs(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("nicshare: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("nicshare: %s: %w", dir, err)
	}
	if int64(st.Type) != unix.BPF_FS_MAGIC {
		if err := unix.Mount("onload", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
			return fmt.Errorf("nicshare: mount of a bpf filesystem at %s: %w", dir, err)
		}
	}
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return fmt.Errorf("nicshare: %s: %w", dir, err)
	}
	if s.Uid != 0 || s.Mode&0o077 != 0 {
		return fmt.Errorf("nicshare: %s must be root's, and closed to all others: %w", dir, unix.EPERM)
	}
	return nil
}

// path is the file of that name.
func (p *pins) path(name string) string { return filepath.Join(p.dir, name) }

// clear removes all files.
func (p *pins) clear() error {
	es, err := os.ReadDir(p.dir)
	errs := []error{err}
	for _, e := range es {
		errs = append(errs, os.Remove(p.path(e.Name())))
	}
	return errors.Join(errs...)
}

// giveUp gives the directory up. It stays, if there is anything in it.
func (p *pins) giveUp() {
	_ = os.Remove(p.dir)
	_ = p.lock.Close()
}

// remove removes the directory, too, and gives it up.
func (p *pins) remove() error {
	return errors.Join(p.clear(), os.Remove(p.dir), p.lock.Close())
}
