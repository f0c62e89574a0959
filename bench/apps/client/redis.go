package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// cache is a session of Redis with keys of its own.
type cache struct {
	client *goredis.Client
	key    string
	round  int
}

func openRedis(o *options, n int) (session, error) {
	return &cache{key: unique(n), client: goredis.NewClient(&goredis.Options{Addr: o.targets[0], PoolSize: 2, MaxRetries: -1, ReadTimeout: patience})}, nil
}

// ask does one of: a value written and read, up to 64 KiB; a pipeline of 50 commands; a
// message to a subscriber, over a connection of its own; a blocking pop.
func (c *cache) ask(string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c.round++
	key := c.key
	switch c.round % 16 {
	case 0:
		return c.publish(ctx, key)
	case 4:
		return c.pipeline(ctx, key+"count")
	case 8:
		if err := c.client.LPush(ctx, key+"list", "x").Err(); err != nil {
			return err
		}
		return c.client.BLPop(ctx, patience, key+"list").Err()
	}
	value := strings.Repeat(fmt.Sprint(c.round%10), 1<<(c.round%17))
	if err := c.client.Set(ctx, key, value, time.Minute).Err(); err != nil {
		return err
	}
	got, err := c.client.Get(ctx, key).Result()
	if err == nil && got != value {
		err = fmt.Errorf("%w: %d bytes instead of %d", errAnswer, len(got), len(value))
	}
	return err
}

func (c *cache) pipeline(ctx context.Context, key string) error {
	p := c.client.Pipeline()
	p.Del(ctx, key)
	const many = 50
	var last *goredis.IntCmd
	for range many {
		last = p.Incr(ctx, key)
	}
	if _, err := p.Exec(ctx); err != nil {
		return err
	}
	if last.Val() != many {
		return fmt.Errorf("%w: %d", errAnswer, last.Val())
	}
	return nil
}

func (c *cache) publish(ctx context.Context, channel string) error {
	s := c.client.Subscribe(ctx, channel)
	defer s.Close()
	if _, err := s.Receive(ctx); err != nil { // that it is subscribed
		return err
	}
	if err := c.client.Publish(ctx, channel, "news").Err(); err != nil {
		return err
	}
	m, err := s.ReceiveMessage(ctx)
	if err == nil && m.Payload != "news" {
		err = errAnswer
	}
	return err
}

func (c *cache) close() { _ = c.client.Close() }
