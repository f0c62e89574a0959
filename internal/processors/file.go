package processors

import "golang.org/x/sys/unix"

// file is a descriptor. An os.File would not do: the runtime's netpoller
// accepts files of a cgroup, which can be polled.
type file int

const noFile file = -1

func open(path string) file {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return noFile
	}
	return file(fd)
}

// read returns the whole text, nil where there is none. It is in *buf, which
// grows as needed.
func (f file) read(buf *[]byte) []byte {
	if f == noFile {
		return nil
	}
	for {
		n, err := unix.Pread(int(f), *buf, 0)
		if err != nil || n <= 0 {
			return nil
		}
		if n < len(*buf) || n >= 1<<20 {
			return (*buf)[:n]
		}
		*buf = make([]byte, 2*len(*buf))
	}
}

func (f *file) close() {
	if *f != noFile {
		unix.Close(int(*f))
		*f = noFile
	}
}
