package recipes

import (
	"net/http"

	onload "github.com/onload-go/onload/net"
)

// ServeHTTP serves HTTP on addr.
func ServeHTTP(addr string, handler http.Handler) error {
	ln, err := onload.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return http.Serve(ln, handler)
}

// GetHTTP fetches a URL.
func GetHTTP(url string) (*http.Response, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: new(onload.Dialer).DialContext}}
	return client.Get(url)
}
