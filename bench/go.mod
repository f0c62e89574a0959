module github.com/onload-go/onload/bench

go 1.25.0

replace github.com/onload-go/onload => ../

require (
	github.com/HdrHistogram/hdrhistogram-go v1.4.0
	github.com/onload-go/onload v0.0.0-00010101000000-000000000000
	github.com/safchain/ethtool v0.7.0
	golang.org/x/sys v0.46.0
)

require (
	github.com/cilium/ebpf v0.22.0 // indirect
	github.com/vishvananda/netlink v1.3.1 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
	go.uber.org/multierr v1.10.0 // indirect
	go.uber.org/zap v1.28.0 // indirect
)
