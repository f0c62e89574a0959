package recipes

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	onload "github.com/onload-go/onload/net"
)

// ServeGRPC serves what register adds.
func ServeGRPC(addr string, register func(*grpc.Server)) error {
	ln, err := onload.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	register(srv)
	return srv.Serve(ln)
}

// DialGRPC makes a client of the server at addr.
func DialGRPC(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return new(onload.Dialer).DialContext(ctx, "tcp", addr)
		}))
}
