package vmrun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// packages are what guests need of Debian's packages.
const packages = "qemu-system-x86 xz-utils zstd debian-archive-keyring"

// missing is what is not installed, "" if all is.
func missing() string {
	for _, tool := range []string{qemuBinary, "xz", "zstd", "apt-get", "dpkg-deb", "ldd"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Sprintf("%s (on Debian: apt-get install --no-install-recommends %s)", tool, packages)
		}
	}
	return ""
}

func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	dir = filepath.Join(dir, "onload-vmrun")
	return dir, os.MkdirAll(dir, 0o755)
}

// Fetch puts the suite's kernel into the cache, unless it is there.
func Fetch(ctx context.Context, suite string) error {
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	for _, pause := range []time.Duration{5 * time.Second, 20 * time.Second, 0} {
		if err = os.Remove(failure(cache, suite)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if _, err = fetched(ctx, suite); err == nil {
			return nil
		}
		select { // a network may fail for a moment
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("three times: %w", err)
}

// Without a network the tests of all packages shall not wait for it one after the other:
// the first one's failure is remembered for a while.
const (
	fetchLimit   = 5 * time.Minute
	failureValid = 15 * time.Minute
)

// failure is the file that remembers why the suite's kernel could not be fetched.
func failure(cache, suite string) string { return filepath.Join(cache, suite+".failed") }

// fetched returns the suite's kernel, which it fetches where the cache has none. The
// caller has the lock.
func fetched(ctx context.Context, suite string) (*kernel, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, suite)
	if k, err := openKernel(dir); !errors.Is(err, os.ErrNotExist) {
		return k, err
	}
	was := failure(cache, suite)
	if info, err := os.Stat(was); err == nil && time.Since(info.ModTime()) < failureValid {
		why, err := os.ReadFile(was)
		return nil, errors.Join(fmt.Errorf("the kernel of %s could not be fetched at %s: %s", suite, info.ModTime().Format(time.TimeOnly), why), err)
	}
	limited, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	if err := fetch(limited, cache, dir, suite); err != nil {
		err = fmt.Errorf("fetching the kernel of %s: %w", suite, err)
		if ctx.Err() == nil {
			err = errors.Join(err, os.WriteFile(was, []byte(err.Error()), 0o644))
		}
		return nil, err
	}
	return openKernel(dir)
}

func fetch(ctx context.Context, cache, dir, suite string) error {
	tmp, err := scratch(cache)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	a := apt{ctx, tmp}
	if err := a.configure(suite); err != nil {
		return err
	}
	if _, err := a.run("apt-get", "-q", "update"); err != nil {
		return err
	}
	names, err := a.kernelPackages("linux-image-amd64")
	if err != nil {
		return err
	}
	// apt compares what it downloads with the suite's signed list.
	if _, err := a.run("apt-get", append([]string{"-q", "download"}, names...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return err
	}
	tree := filepath.Join(tmp, "tree")
	for _, d := range debs {
		if _, err := a.run("dpkg-deb", "-x", d, tree); err != nil {
			return err
		}
	}
	if err := unpackImage(tree); err != nil {
		return err
	}
	return os.Rename(tree, dir)
}

// unpackImage leaves the uncompressed kernel in an unpacked package.
func unpackImage(tree string) error {
	for _, pattern := range []string{"boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"} {
		m, err := filepath.Glob(filepath.Join(tree, pattern))
		if err != nil {
			return err
		}
		if len(m) != 1 {
			continue
		}
		b, err := os.ReadFile(m[0])
		if err != nil {
			return err
		}
		image, err := vmlinux(b)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(m[0]), err)
		}
		return os.WriteFile(filepath.Join(tree, imageName), image, 0o644)
	}
	return errors.New("the kernel's package has no image")
}

// apt is one with lists and downloads of its own, below dir. The host's are not touched.
type apt struct {
	ctx context.Context
	dir string
}

func (a apt) run(name string, args ...string) (string, error) {
	c := exec.CommandContext(a.ctx, name, args...)
	c.Dir = a.dir
	c.Env = append(os.Environ(), "LC_ALL=C", "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"))
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, said.Bytes())
	}
	return out.String(), nil
}

func (a apt) configure(suite string) error {
	mirror, err := mirrorOf(a.ctx)
	if err != nil {
		return err
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return err
		}
	}
	source := fmt.Sprintf("deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n", mirror, suite)
	config := fmt.Sprintf(`Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "%[1]s/lists";
Dir::Cache "%[1]s/cache";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "0";
Acquire::http::Timeout "20";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
`, a.dir)
	return errors.Join(
		os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(source), 0o644),
		os.WriteFile(filepath.Join(a.dir, "apt.conf"), []byte(config), 0o644))
}

// mirrorOf is the Debian mirror of the host's own apt, or Debian's.
func mirrorOf(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for uri := range strings.FieldsSeq(string(out)) {
		if uri = strings.TrimSuffix(uri, "/"); strings.HasSuffix(uri, "/debian") {
			return uri, nil
		}
	}
	return "http://deb.debian.org/debian", nil
}

// kernelPackages follows a package that only depends on others to the kernel's, and
// returns the parts that this one is cut into.
func (a apt) kernelPackages(name string) ([]string, error) {
	out, err := a.run("apt-cache", "depends", "--no-recommends", "--no-suggests", name)
	if err != nil {
		return nil, err
	}
	parts := []string{name}
	for line := range strings.Lines(out) {
		d, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: ")
		if !ok {
			continue
		}
		version := strings.TrimPrefix(name, "linux-image-")
		switch {
		case strings.HasPrefix(d, "linux-image-"):
			return a.kernelPackages(d)
		case d == "linux-binary-"+version, d == "linux-modules-"+version, d == "linux-base-"+version:
			parts = append(parts, d)
		}
	}
	return parts, nil
}
