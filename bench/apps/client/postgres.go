package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// database is a session of PostgreSQL.
type database struct {
	conn    *pgx.Conn
	channel string // of notifications
	round   int
}

func openPostgres(o *options, n int) (session, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := pgx.Connect(ctx, o.targets[0])
	if err != nil {
		return nil, err
	}
	_, err = c.Exec(ctx, "CREATE TEMPORARY TABLE lines (n int, text text)")
	return &database{conn: c, channel: unique(n)}, err
}

// ask does one of: a prepared query with an answer of up to 32 KiB; a transaction that
// copies a thousand rows in, counts and removes them; a batch of 20 queries; a
// notification sent and received.
func (d *database) ask(string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d.round++
	switch d.round % 16 {
	case 0:
		return d.copyIn(ctx)
	case 5:
		return d.batch(ctx)
	case 10:
		return d.notify(ctx)
	}
	text := strings.Repeat("x", 1<<(d.round%16))
	var got string
	if err := d.conn.QueryRow(ctx, "SELECT $1::text", text).Scan(&got); err != nil {
		return err
	}
	if got != text {
		return fmt.Errorf("%w: %d bytes", errAnswer, len(got))
	}
	return nil
}

const rows = 1000

func (d *database) copyIn(ctx context.Context) error {
	return pgx.BeginFunc(ctx, d.conn, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"lines"}, []string{"n", "text"},
			pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return []any{i, strings.Repeat("y", 100)}, nil }))
		if err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM lines").Scan(&n); err != nil {
			return err
		}
		if n != rows {
			return fmt.Errorf("%w: %d rows", errAnswer, n)
		}
		_, err = tx.Exec(ctx, "DELETE FROM lines")
		return err
	})
}

func (d *database) batch(ctx context.Context) error {
	b := new(pgx.Batch)
	for i := range 20 {
		b.Queue("SELECT $1::int", i).QueryRow(func(r pgx.Row) error {
			var n int
			if err := r.Scan(&n); err != nil {
				return err
			}
			if n != i {
				return fmt.Errorf("%w: %d", errAnswer, n)
			}
			return nil
		})
	}
	return d.conn.SendBatch(ctx, b).Close()
}

// notify also waits for a notification that does not come: pgx interrupts the read by a
// deadline, and goes on with the connection.
func (d *database) notify(ctx context.Context) error {
	if _, err := d.conn.Exec(ctx, "LISTEN "+d.channel); err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	if _, err := d.conn.WaitForNotification(short); !errors.Is(err, context.DeadlineExceeded) || !pgconn.Timeout(err) {
		return fmt.Errorf("waiting for no notification: %w", err)
	}
	if _, err := d.conn.Exec(ctx, "NOTIFY "+d.channel+", 'news'"); err != nil {
		return err
	}
	n, err := d.conn.WaitForNotification(ctx)
	if err == nil && n.Payload != "news" {
		err = errAnswer
	}
	return err
}

func (d *database) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = d.conn.Close(ctx)
}
