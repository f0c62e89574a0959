package program

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/jackc/pgx/v5"
)

const nobody = 65534 // PostgreSQL does not run as root

var postgres = &Program{
	Name: "PostgreSQL",
	Doc:  "PostgreSQL, over the kernel, and jackc/pgx, a prepared SELECT of 64 bytes",
	External: &External{
		Needs: func() error {
			_, err := postgresTool("initdb")
			return err
		},
		Prepare: initPostgres,
		Command: func(dir, host string, _ bool) (*Command, error) {
			path, err := postgresTool("postgres")
			return &Command{Args: []string{path, "-D", filepath.Join(dir, "postgres"), "-h", host, "-p", "5432", "-k", "", "-N", "600", "-F",
				"-c", "shared_buffers=32MB"}, User: nobody, Addr: net.JoinHostPort(host, "5432")}, err
		},
		Stop:       syscall.SIGINT, // at once, but in order
		KernelOnly: true,
	},
	Dial: func(n *Network, addr string, conns int) ([]Call, error) {
		cfg, err := pgx.ParseConfig("postgres://nobody@" + addr + "/postgres?sslmode=disable")
		if err != nil {
			return nil, err
		}
		cfg.DialFunc = n.DialContext
		return each(conns, func() (Call, error) {
			var c *pgx.Conn
			return func() (err error) {
				ctx := context.Background()
				if c == nil {
					if c, err = pgx.ConnectConfig(ctx, cfg); err != nil {
						return err
					}
				}
				var v string
				if err := c.QueryRow(ctx, "SELECT $1::text", string(payload)).Scan(&v); err != nil {
					return err
				}
				if len(v) != Payload {
					return fmt.Errorf("a value of %d bytes", len(v))
				}
				return nil
			}, nil
		})
	},
}

// initPostgres makes an empty database that trusts the network it is on.
func initPostgres(dir string) error {
	path, err := postgresTool("initdb")
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "postgres")
	if err := errors.Join(os.Mkdir(data, 0o700), os.Chown(data, nobody, nobody)); err != nil {
		return err
	}
	c := exec.Command(path, "-D", data, "-A", "trust", "-U", "nobody", "--no-sync")
	c.Dir = data
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	hba, err := os.OpenFile(filepath.Join(data, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = hba.WriteString("host all all 0.0.0.0/0 trust\n")
	return errors.Join(err, hba.Close())
}

// postgresTool finds a program of PostgreSQL, which Debian keeps out of PATH.
func postgresTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	l, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(l) == 0 {
		return "", fmt.Errorf("%s is not installed (package postgresql)", name)
	}
	slices.Sort(l)
	return l[len(l)-1], nil
}
