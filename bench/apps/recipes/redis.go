package recipes

import (
	"github.com/redis/go-redis/v9"

	onload "github.com/onload-go/onload/net"
)

// NewRedis makes a client of the Redis server at addr.
func NewRedis(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr, Dialer: new(onload.Dialer).DialContext})
}
