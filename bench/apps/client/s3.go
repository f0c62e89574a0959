package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// store is a session of S3 with a bucket of its own.
type store struct {
	client    *minio.Client
	transport *http.Transport
	bucket    string
	object    string
	random    *rand.Rand
	round     int
}

// openS3 opens a session with a target such as http://USER:PASSWORD@HOST:PORT.
func openS3(o *options, n int) (session, error) {
	u, err := url.Parse(o.targets[0])
	if err != nil {
		return nil, err
	}
	password, _ := u.User.Password()
	s := &store{transport: new(http.Transport), bucket: fmt.Sprintf("user%d", n), object: unique(n), random: rand.New(rand.NewPCG(uint64(n), 0))}
	s.client, err = minio.New(u.Host, &minio.Options{
		Creds:     credentials.NewStaticV4(u.User.Username(), password, ""),
		Transport: s.transport, MaxRetries: 1, Region: "us-east-1",
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	there, err := s.client.BucketExists(ctx, s.bucket)
	if err == nil && !there {
		err = s.client.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{})
	}
	return s, err
}

// ask puts an object, reads it again and removes it: most of them small, one in 64 of
// 6 MiB, which goes in two parts.
func (s *store) ask(string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.round++
	const part = 5 << 20
	size := s.random.IntN(1 << (6 + 2*s.random.IntN(7)))
	if s.round%64 == 0 {
		size = 6 << 20
	}
	text := bytes.Repeat([]byte{byte(s.random.Uint32())}, size)
	if _, err := s.client.PutObject(ctx, s.bucket, s.object, bytes.NewReader(text), int64(size), minio.PutObjectOptions{PartSize: part}); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	object, err := s.client.GetObject(ctx, s.bucket, s.object, minio.GetObjectOptions{})
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	defer object.Close()
	got, err := io.ReadAll(object)
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if !bytes.Equal(got, text) {
		return fmt.Errorf("%w: %d bytes instead of %d", errAnswer, len(got), size)
	}
	return s.client.RemoveObject(ctx, s.bucket, s.object, minio.RemoveObjectOptions{})
}

func (s *store) close() { s.transport.CloseIdleConnections() }
