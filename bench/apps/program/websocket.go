package program

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/coder/websocket"
)

var websockets = &Program{
	Name: "websocket",
	Doc:  "coder/websocket, echo of messages of 64 bytes",
	Serve: func(n *Network, host, _ string) (*Server, error) {
		return n.serve(host, (&http.Server{Handler: http.HandlerFunc(echo)}).Serve)
	},
	Dial: func(n *Network, addr string, conns int) ([]Call, error) {
		ctx := context.Background()
		opts := &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{DialContext: n.DialContext}}}
		return each(conns, func() (Call, error) {
			var c *websocket.Conn
			return func() (err error) {
				if c == nil {
					if c, _, err = websocket.Dial(ctx, "ws://"+addr+"/", opts); err != nil {
						return err
					}
				}
				if err := c.Write(ctx, websocket.MessageBinary, payload); err != nil {
					return err
				}
				_, b, err := c.Read(ctx)
				if err == nil && !bytes.Equal(b, payload) {
					err = errors.New("the answer is not what was sent")
				}
				return err
			}, nil
		})
	},
}

func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // the client was told
	}
	defer c.CloseNow()
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if c.Write(r.Context(), kind, b) != nil {
			return
		}
	}
}
