// Package docs holds no code: its tests check that the documents name only
// files, functions and settings that exist.
package docs
