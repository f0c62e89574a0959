// Command cmd runs packetdrill scripts against our stack:
//
//	go run ./internal/packetdrill/cmd [-6] [-v] FILE or DIR...
//
// It prints the verdict of each script, and for directories a table of verdicts,
// and fails when a script does. As with packetdrill's own runner, scripts of a
// directory whose names end in v4.pkt or v6.pkt run over that version of IP
// only.
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/onload-go/onload/internal/packetdrill"
)

func main() {
	v6 := flag.Bool("6", false, "over IPv6")
	verbose := flag.Bool("v", false, "tell of each script that did not pass, why")
	flag.Parse()
	skip := "v6.pkt"
	if *v6 {
		skip = "v4.pkt"
	}
	files, err := scripts(flag.Args(), skip)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	type counts [3]int
	dirs := map[string]*counts{}
	var names []string
	var total counts
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		r := packetdrill.Run(string(src), packetdrill.Config{IPv6: *v6})
		d := filepath.Dir(f)
		if dirs[d] == nil {
			dirs[d] = &counts{}
			names = append(names, d)
		}
		dirs[d][r.Verdict]++
		total[r.Verdict]++
		if *verbose && r.Verdict != packetdrill.Pass || len(flag.Args()) == 1 && len(files) == 1 {
			fmt.Printf("%s: %v\n", f, r)
		}
	}
	width := 5
	for _, n := range names {
		width = max(width, len(n))
	}
	fmt.Printf("%-*s  pass  fail  unsupported\n", width, "")
	for _, n := range names {
		c := dirs[n]
		fmt.Printf("%-*s  %4d  %4d  %11d\n", width, n, c[0], c[1], c[2])
	}
	fmt.Printf("%-*s  %4d  %4d  %11d\n", width, "total", total[0], total[1], total[2])
	if total[packetdrill.Fail] > 0 {
		os.Exit(1)
	}
}

// scripts lists the given files, and the files below the given directories, in
// order. Below a directory it leaves out names that end in skip.
func scripts(args []string, skip string) (files []string, err error) {
	for _, a := range args {
		err := filepath.WalkDir(a, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && (path == a || strings.HasSuffix(path, ".pkt") && !strings.HasSuffix(path, skip)) {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}
