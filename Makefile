# The commands that people use. Those that need namespaces are for root:
# sudo make test.

modules := . bench bench/apps internal/interop/programs
staticcheck := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help
help: ## list these
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: build
build: ## compile everything
	@for m in $(modules); do go build -C $$m ./... || exit; done

.PHONY: test
test: ## all tests, as root
	@for m in $(modules); do go test -C $$m ./... || exit; done

.PHONY: short
short: ## the tests that need no privileges
	go test ./tcp ./udp ./ip ./ring ./driver/sim ./internal/importrules ./internal/docs ./internal/packetdrill

.PHONY: race
race: ## tests with the race detector, as root
	GORACE=atexit_sleep_ms=0 go test -race -short -timeout 30m ./...

.PHONY: lint
lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go') | tee /dev/stderr)"
	@for m in $(modules); do (cd $$m && go vet ./... && go run $(staticcheck) ./...) || exit; done

.PHONY: generate
generate: ## rebuild the XDP program (clang, libbpf-dev)
	go generate ./...

.PHONY: fuzz
fuzz: ## each fuzzer for some seconds
	.ci/fuzz

.PHONY: quickstart
quickstart: ## kernel against onload on this machine, as root
	go run ./examples/quickstart

.PHONY: bench
bench: ## the benchmark, quick, as root
	go run -C bench . -quick

.PHONY: apps
apps: ## real programs over the kernel and over onload, quick, as root
	go run -C bench/apps . -quick

.PHONY: work
work: ## the table of work that CI compares
	go test -C bench ./micro

.PHONY: site
site: ## the documents as a site of plain files, in the folder site
	go run ./internal/site/cmd -out site

.PHONY: ci
ci: ## all that CI does, as root in a throw-away machine
	.ci/run
