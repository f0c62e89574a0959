// Command cmd writes the documents of the repository as a site: go run
// ./internal/site/cmd -out DIR, from the root.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/onload-go/onload/internal/site"
)

func main() {
	root := flag.String("root", ".", "the repository")
	out := flag.String("out", "site", "folder of the site, which is made")
	flag.Parse()
	if err := site.Write(*root, *out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
