package nicshare

// attempts are what a process with the descriptors of a Grant may try.
var attempts = map[string]func(*rings) error{}
