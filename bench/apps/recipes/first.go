package recipes

import (
	"log"
	"net/http"

	onload "github.com/onload-go/onload/net"
)

// First is the server at the top of README.md.
func First(handler http.Handler) {
	ln, err := onload.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	log.Print(onload.PathOf(ln))
	log.Fatal(http.Serve(ln, handler))
}

// FirstClient is the client at the top of README.md.
func FirstClient() (onload.Conn, error) {
	conn, err := onload.Dial("tcp", "10.0.0.7:6379")
	return conn, err
}
