package operate

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/onload-go/onload/internal/inspect/ask"
)

func supportCommand() *cobra.Command {
	var o common
	var file, key string
	var anonymise bool
	c := &cobra.Command{
		Use:   "support",
		Short: "write an archive with all of that, to send to somebody",
		Long: `Write what ps, ss, stat, queues, steer and routes print as JSON, counters twice, to an
archive (tar.gz). No payload is in it, no environment and no arguments of programs. With
--anonymise addresses are replaced, the same ones by the same, so that subnets are still
recognised; with the same --key also in other archives.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.all = o.pid == 0
			ps, err := o.processes()
			if err != nil {
				return err
			}
			defer closeAll(ps)
			hide := func(s string) string { return s }
			if anonymise || key != "" {
				a, err := keyedAnonymiser(key)
				if err != nil {
					return err
				}
				hide = a.text
			}
			now := time.Now()
			if file == "" {
				file = now.UTC().Format("onload-support-20060102-150405.tar.gz")
			}
			var b bytes.Buffer
			if err := writeSupport(&b, ps, now, time.Second, hide); err != nil {
				return err
			}
			if file == "-" {
				_, err := c.OutOrStdout().Write(b.Bytes())
				return err
			}
			if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), file)
			return err
		},
	}
	c.Flags().IntVarP(&o.pid, "pid", "p", 0, "this process only")
	c.Flags().BoolP("all", "a", true, "all processes, which is the default")
	c.Flags().StringVarP(&file, "output", "o", "", "the archive; - is the standard output")
	c.Flags().BoolVar(&anonymise, "anonymise", false, "replace addresses")
	c.Flags().StringVar(&key, "key", "", "64 hexadecimal digits for --anonymise; else by chance")
	complete(c)
	return c
}

func keyedAnonymiser(digits string) (*anonymiser, error) {
	if digits == "" {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // it does not fail
		return newAnonymiser(key)
	}
	key, err := hex.DecodeString(digits)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	return newAnonymiser(key)
}

// writeSupport writes the archive. A part that fails says why in errors.txt. Counters are
// looked at twice, so far apart.
func writeSupport(out io.Writer, ps []*ask.Process, now time.Time, apart time.Duration, hide func(string) string) error {
	zip := gzip.NewWriter(out)
	archive := tar.NewWriter(zip)
	put := func(name string, content []byte) error {
		b := []byte(hide(string(content)))
		h := &tar.Header{Name: "onload-support/" + name, Mode: 0o600, Size: int64(len(b)), ModTime: now, Format: tar.FormatPAX}
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		_, err := archive.Write(b)
		return err
	}
	var failed bytes.Buffer
	for _, part := range []struct {
		name string
		list func([]*ask.Process) (any, error)
	}{
		{"ps.json", func(ps []*ask.Process) (any, error) {
			l := ProcessList{Processes: []ProcessStatus{}}
			for _, p := range ps {
				l.Processes = append(l.Processes, statusOf(p))
			}
			return l, nil
		}},
		{"stat.json", func(ps []*ask.Process) (any, error) { return counterList(ps) }},
		{"ss.json", func(ps []*ask.Process) (any, error) {
			f := &filter{}
			return socketsOf(ps, &ssOptions{all: true, json: true}, f)
		}},
		{"queues.json", func(ps []*ask.Process) (any, error) { return queueList(ps) }},
		{"steer.json", func(ps []*ask.Process) (any, error) { return steeringList(ps) }},
		{"routes.json", func(ps []*ask.Process) (any, error) { return routeList(ps) }},
		{"stat-later.json", func(ps []*ask.Process) (any, error) {
			time.Sleep(apart)
			return counterList(ps)
		}},
	} {
		v, err := part.list(ps)
		if err != nil {
			fmt.Fprintf(&failed, "%s: %v\n", part.name, err)
		}
		var b bytes.Buffer
		if err := printJSON(&b, v); err != nil {
			return err
		}
		if err := put(part.name, b.Bytes()); err != nil {
			return err
		}
	}
	if kernel, err := os.ReadFile("/proc/version"); err == nil {
		if err := put("kernel.txt", kernel); err != nil {
			return err
		}
	}
	if failed.Len() > 0 {
		if err := put("errors.txt", failed.Bytes()); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), zip.Close())
}
