# What can be done here; `make` alone lists it. `sudo make` works, too: sudo often drops the
# directory that Go lies in from PATH, which is why it is added back.
export PATH := $(PATH):/usr/local/go/bin

GO       ?= go
BUILD    := build
TOOLS    := $(abspath $(BUILD)/tools)
FUZZTIME ?= 30s
SOAKTIME ?= 5m
LOSSYTIME ?= 10m

# Pinned, so that a finding is a change of ours and not of theirs.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

# Packages whose tests lay networks or load programs into the kernel have the machine to
# themselves, one after the other; the others run beside each other.
list     = $(shell $(GO) list -f '{{.ImportPath}} {{.Imports}} {{.TestImports}} {{.XTestImports}}' ./... | grep $(1) -E '$(2)' | cut -d' ' -f1)
network := internal/testnet|github.com/cilium/ebpf
# Where goroutines meet. Those of inspection meet in a few tests only; of the rest, which are one goroutine each, the
# short form does there. Of the appliance, whose daemon is then built with the detector, too, a choice
# that takes little time and leaves out what a slow daemon would fail; soak runs the rest.
racy    := ./internal/api ./internal/event ./internal/queue ./internal/store ./internal/testnet
racing  := TestReadPermittedWriteRefused|TestReloadOnSIGHUP|TestInvariant05LiveConnections|JSON$$|TestEndsCleanly

.DEFAULT_GOAL := help
.PHONY: help build test test-race lint generate fuzz soak bench demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## compile penstockd and penstock into build/; needs no C compiler
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BUILD)/ ./cmd/...

test: ## run every test; as root those with networks, too (PENSTOCK_REQUIRE_NET=1: no skips)
	@status=0; set -x; \
		$(GO) test -p 2 -timeout 10m $(call list,-v,$(network)) || status=1; \
		$(GO) test -p 1 -timeout 20m $(call list,,$(network)) || status=1; \
		exit $$status

test-race: ## run the tests of what is concurrent under the race detector; needs a C compiler
	CGO_ENABLED=1 $(GO) test -race -p 1 -timeout 10m $(racy)
	CGO_ENABLED=1 $(GO) test -race -short -timeout 10m ./internal/inspect/...
	CGO_ENABLED=1 $(GO) test -race -timeout 10m -run '$(racing)' ./cmd/penstockd

lint: ## formatting, vet, staticcheck, known vulnerabilities, generated files, the tree itself
	@unformatted=$$(gofmt -l bpf cmd dissectors internal); \
		test -z "$$unformatted" || { echo "gofmt -w these:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	GO='$(GO)' TOOLS='$(TOOLS)' .ci/analyse $(STATICCHECK) $(GOVULNCHECK)
	GO='$(GO)' .ci/check-generated
	.ci/check-tree

generate: ## compile the fast path anew; needs clang and the headers of libbpf
	$(GO) generate ./bpf

fuzz: ## fuzz each target for FUZZTIME (30s)
	GO='$(GO)' .ci/fuzz $(FUZZTIME)

soak: ## what takes minutes and hours: long agreement, adversaries, bad cables, faults and fuzzing, then tests with networks over and over
	PENSTOCK_FRAMES=2000000 $(GO) test -count=1 -timeout 1h ./internal/datapath
	$(GO) test -count=1 -timeout 1h $(call list,,pgregory.net/rapid) -rapid.checks=5000
	$(GO) test -count=1 -timeout 1h -v -run TestKernelReceives ./internal/stream -kernel 1m
	$(GO) test -count=1 -timeout 1h -v -run TestLossyLine ./cmd/penstockd -lossy $(LOSSYTIME)
	$(GO) test -count=1 -timeout 3h -v -run TestFaultsInAnyOrder ./cmd/penstockd -faults 1000 -fault-seed 0
	GO='$(GO)' .ci/fuzz $(SOAKTIME)
	PENSTOCK_CONNECTIONS=10000 $(GO) test -count=1 -run Invariant08 ./cmd/penstockd
	PENSTOCK_SILENCE=60 $(GO) test -count=1 -timeout 1h -run TestInvariant03 ./cmd/penstockd
	$(GO) test -count=5 -p 1 -timeout 1h $(call list,,$(network))
	CGO_ENABLED=1 $(GO) test -race -timeout 1h ./internal/inspect/...
	CGO_ENABLED=1 $(GO) test -race -timeout 1h ./cmd/penstockd

bench: ## measure the appliance beside a bare bridge, and print the figures; needs root
	$(GO) run ./internal/bench

demo: build ## lay a plant, put the appliance in it, and try what its policy permits and denies; needs root
	$(GO) build -o $(BUILD)/demo ./internal/demo
	$(BUILD)/demo -programs $(BUILD)

clean: ## remove what was built
	rm -rf $(BUILD)
