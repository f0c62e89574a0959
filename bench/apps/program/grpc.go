package program

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
)

var grpcUnary = &Program{
	Name: "gRPC",
	Doc:  "grpc-go, unary calls with 64 bytes each way, one at a time on each connection",
	Serve: func(n *Network, host, _ string) (*Server, error) {
		s := grpc.NewServer()
		grpc_testing.RegisterTestServiceServer(s, echoService{})
		return n.serve(host, s.Serve)
	},
	Dial: func(n *Network, addr string, conns int) ([]Call, error) {
		return each(conns, func() (Call, error) {
			c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return n.DialContext(ctx, "tcp", addr) }))
			if err != nil {
				return nil, err
			}
			svc := grpc_testing.NewTestServiceClient(c)
			req := &grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: payload}}
			return func() error {
				r, err := svc.UnaryCall(context.Background(), req)
				if err == nil && len(r.GetPayload().GetBody()) != Payload {
					err = fmt.Errorf("an answer of %d bytes", len(r.GetPayload().GetBody()))
				}
				return err
			}, nil
		})
	},
}

type echoService struct {
	grpc_testing.UnimplementedTestServiceServer
}

func (echoService) UnaryCall(_ context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{Payload: r.GetPayload()}, nil
}
