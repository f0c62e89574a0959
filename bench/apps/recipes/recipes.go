// Package recipes shows common programs over onload, in the words of README.md:
// internal/docs compares the two, and the test runs each over AF_XDP.
package recipes
