// Package pcapng writes recorded packets for Wireshark and tcpdump
// (draft-ietf-opsawg-pcapng).
package pcapng

import (
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/record"
)

// File is a section of a pcapng file. Interfaces are described when their first packet
// comes.
type File struct {
	w     *pcapgo.NgWriter
	snap  int
	links map[string]int
}

// New begins a file, with the interfaces of those names. A file has one at least.
func New(w io.Writer, snap int, names []string) (*File, error) {
	f := &File{snap: snap, links: map[string]int{}}
	if f.snap <= 0 {
		f.snap = record.DefaultSnapLen
	}
	if len(names) == 0 {
		names = []string{"onload"}
	}
	ng, err := pcapgo.NewNgWriterInterface(w, f.link(names[0]), pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "onload",
	}})
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	f.w, f.links[names[0]] = ng, 0
	for _, name := range names[1:] {
		if _, err := f.number(name); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *File) link(name string) pcapgo.NgInterface {
	return pcapgo.NgInterface{
		Name: name, OS: runtime.GOOS, LinkType: layers.LinkTypeEthernet,
		SnapLength: uint32(f.snap), TimestampResolution: 9,
	}
}

// number is that of the interface in the file.
func (f *File) number(name string) (int, error) {
	n, ok := f.links[name]
	if ok {
		return n, nil
	}
	n, err := f.w.AddInterface(f.link(name))
	if err != nil {
		return 0, fmt.Errorf("capture: %w", err)
	}
	f.links[name] = n
	return n, nil
}

// Write writes a packet, with its direction (epb_flags), its queue (epb_queue) and, as a
// comment (opt_comment), why it was dropped.
func (f *File) Write(p *record.Packet) error {
	link, err := f.number(p.Name)
	if err != nil {
		return err
	}
	dir := pcapgo.NgEpbFlagDirectionInbound
	if p.Out {
		dir = pcapgo.NgEpbFlagDirectionOutbound
	}
	queue := uint32(p.Queue)
	opt := pcapgo.NgPacketOptions{Flags: &pcapgo.NgEpbFlags{Direction: dir}, Queue: &queue}
	switch p.Why {
	case "":
	case driver.DropReturned:
		opt.Comments = []string{p.Why}
	default:
		opt.Comments = []string{"dropped: " + p.Why}
	}
	err = f.w.WritePacketWithOptions(gopacket.CaptureInfo{
		Timestamp: time.Unix(0, p.Time), CaptureLength: len(p.Data), Length: p.Length, InterfaceIndex: link,
	}, p.Data, opt)
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	return nil
}

// Flush writes what is buffered.
func (f *File) Flush() error {
	if err := f.w.Flush(); err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	return nil
}
