package vmrun

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"os/exec"
)

// decompress unpacks kernels and modules, whichever way they are packed.
func decompress(b []byte) ([]byte, error) {
	var tool string
	switch {
	case bytes.HasPrefix(b, []byte("\x7fELF")):
		return b, nil
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		r.Multistream(false)
		return io.ReadAll(r)
	case bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		tool = "zstd"
	case bytes.HasPrefix(b, []byte{0xfd, '7', 'z', 'X', 'Z'}):
		tool = "xz"
	default:
		return nil, fmt.Errorf("unknown compression % x", b[:min(8, len(b))])
	}
	c := exec.Command(tool, "-dc")
	c.Stdin = bytes.NewReader(b)
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w %s", tool, err, said.Bytes())
	}
	return out.Bytes(), nil
}

// vmlinux takes the ELF out of a bzImage: Documentation/arch/x86/boot.rst, setup_sects
// at 0x1f1, payload_offset and payload_length at 0x248. It boots a second sooner than
// one that unpacks itself in the emulator.
func vmlinux(b []byte) ([]byte, error) {
	if len(b) < 0x250 || string(b[0x202:0x206]) != "HdrS" {
		return nil, fmt.Errorf("no bzImage")
	}
	off := (int(b[0x1f1])+1)*512 + int(binary.LittleEndian.Uint32(b[0x248:]))
	n := int(binary.LittleEndian.Uint32(b[0x24c:]))
	if n < 8 || off+n > len(b) {
		return nil, fmt.Errorf("its payload is outside of the file")
	}
	payload := b[off : off+n]
	if payload[0] != 0x1f {
		payload = payload[:n-4] // the size, which the build appends where gzip does not
	}
	out, err := decompress(payload)
	if err == nil && !bytes.HasPrefix(out, []byte("\x7fELF")) {
		err = fmt.Errorf("its payload is no ELF file")
	}
	return out, err
}
