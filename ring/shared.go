package ring

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NewSharedArena is NewArena over memory that another process can map: a memfd that is
// sealed against shrinking and growing, which FD returns.
func NewSharedArena(frames, frameSize int) (*Arena, error) {
	a, err := newArena(frames, frameSize, (*Arena).mapShared)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// FD is the memfd of a shared arena until Close, -1 of others. It belongs to the Arena.
func (a *Arena) FD() int {
	if a.file == nil || a.closed.Load() {
		return -1
	}
	return int(a.file.Fd())
}

// mapShared sets mem to n bytes of a new memfd.
func (a *Arena) mapShared(n int) (mapped []byte, err error) {
	fd, err := unix.MemfdCreate("onload", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	a.file = os.NewFile(uintptr(fd), "arena")
	defer func() {
		if err != nil {
			_ = a.file.Close()
		}
	}()
	if err := unix.Ftruncate(fd, int64(n)); err != nil {
		return nil, os.NewSyscallError("ftruncate", err)
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seals: %w", err)
	}
	if a.mem, err = unix.Mmap(fd, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	// As in mapMem; where the kernel has huge pages for memfds at all
	// (transparent_hugepage/shmem_enabled).
	_ = unix.Madvise(a.mem, unix.MADV_HUGEPAGE)
	_ = unix.Madvise(a.mem, unix.MADV_POPULATE_WRITE)
	return a.mem, nil
}

// dropShared gives the pages of a shared arena back, for all that have it mapped.
func (a *Arena) dropShared() error {
	err := unix.Madvise(a.mem, unix.MADV_REMOVE)
	if e := a.file.Close(); err == nil {
		err = e
	}
	return err
}
