package onload_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// testFile returns a new file of random bytes, open at its beginning.
func testFile(t testing.TB, size int) (*os.File, []byte) {
	t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(data)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, data
}

// position is where f's next Read begins.
func position(t *testing.T, f io.Seeker) int64 {
	t.Helper()
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestSendFile: the bytes given to ReadFrom, a whole file or a part, arrive, and
// the file is where it would be after Reads.
func TestSendFile(t *testing.T) {
	a, b := memoryPair(t)
	for _, size := range []int{0, 1, 1447, 1448, 100_000, 3<<20 + 7} {
		third, half := int64(size/3), int64(size/2)
		for _, tt := range []struct {
			name string
			r    func(f *os.File) io.Reader
			from int64 // of the file
			n    int64
			at   int64 // where f is afterwards
		}{
			{"whole", func(f *os.File) io.Reader { return f }, 0, int64(size), int64(size)},
			{"from a third on", func(f *os.File) io.Reader { f.Seek(third, io.SeekStart); return f },
				third, int64(size) - third, int64(size)},
			{"half", func(f *os.File) io.Reader { return io.LimitReader(f, half) }, 0, half, half},
			{"beyond the end", func(f *os.File) io.Reader { return io.LimitReader(f, int64(size)+5) },
				0, int64(size), int64(size)},
			{"section", func(f *os.File) io.Reader { return io.NewSectionReader(f, third, half) },
				third, min(half, int64(size)-third), 0},
			{"section beyond the end", func(f *os.File) io.Reader { return io.NewSectionReader(f, third, 1<<40) },
				third, int64(size) - third, 0},
			{"part of a section", func(f *os.File) io.Reader {
				return io.LimitReader(io.NewSectionReader(f, third, half), third/2)
			}, third, third / 2, 0},
			{"section of a section", func(f *os.File) io.Reader {
				return io.NewSectionReader(io.NewSectionReader(f, third, half), 0, third/2)
			}, third, third / 2, 0},
		} {
			for _, way := range []string{"ReadFrom", "Copy"} {
				c, s := tcpPipe(t, a, b)
				f, data := testFile(t, size)
				r := tt.r(f)
				go func() {
					n, err := int64(0), error(nil)
					if way == "Copy" {
						n, err = io.Copy(c, r)
					} else {
						n, err = c.ReadFrom(r)
					}
					if n != tt.n || err != nil {
						t.Errorf("%s of %d, %s: %d, %v, want %d", way, size, tt.name, n, err, tt.n)
					}
					c.CloseWrite()
				}()
				got, err := io.ReadAll(s)
				if err != nil || !bytes.Equal(got, data[tt.from:tt.from+tt.n]) {
					t.Errorf("%s of %d, %s: %d bytes arrived, %v", way, size, tt.name, len(got), err)
				}
				if at := position(t, f); at != tt.at {
					t.Errorf("%s of %d, %s: the file is at %d, want %d", way, size, tt.name, at, tt.at)
				}
				if l, ok := r.(*io.LimitedReader); ok && tt.name == "half" && l.N != 0 {
					t.Errorf("%d left of the limit", l.N)
				}
				if k, ok := r.(*io.SectionReader); ok && position(t, k) != tt.n {
					t.Errorf("%s: the section is at %d, want %d", tt.name, position(t, k), tt.n)
				}
			}
		}
	}
}

// TestSendSpecial: a source that is no regular file, or says that it is empty, is
// read as any reader is.
func TestSendSpecial(t *testing.T) {
	a, b := memoryPair(t)
	want, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	proc, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		w.Write(want)
		w.Close()
	}()
	for _, f := range []*os.File{proc, r} {
		c, s := tcpPipe(t, a, b)
		go func() {
			if n, err := c.ReadFrom(f); n != int64(len(want)) || err != nil {
				t.Errorf("%s: %d of %d, %v", f.Name(), n, len(want), err)
			}
			c.CloseWrite()
		}()
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d of %d bytes arrived, %v", f.Name(), len(got), len(want), err)
		}
	}
}

// TestSendChangingFile: a file that grows or shrinks while it is sent ends where
// it ends by then.
func TestSendChangingFile(t *testing.T) {
	const size, little = 4 << 20, 64 << 10
	for _, tt := range []struct {
		name   string
		change func(f *os.File) error
		want   int
	}{
		{"grows", func(f *os.File) error { _, err := f.WriteAt([]byte("more"), size); return err }, size + 4},
		{"shrinks", func(f *os.File) error { return f.Truncate(size / 2) }, size / 2},
	} {
		a, b := memoryPair(t)
		c, s := tcpPipe(t, a, b)
		// Between the file and the reader there is room for less than a half.
		c.SetWriteBuffer(little)
		s.SetReadBuffer(little)
		f, data := testFile(t, size)
		go func() {
			if n, err := c.ReadFrom(f); n != int64(tt.want) || err != nil {
				t.Errorf("a file that %s: %d, %v, want %d", tt.name, n, err, tt.want)
			}
			c.CloseWrite()
		}()
		first := make([]byte, 1000)
		if _, err := io.ReadFull(s, first); err != nil {
			t.Fatal(err)
		}
		if err := tt.change(f); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(append(first, rest...), append(data, "more"...)[:tt.want]) {
			t.Errorf("a file that %s: %d bytes arrived, %v", tt.name, len(first)+len(rest), err)
		}
	}
}
