# make check   formatting, linters, tests with the race detector, tidy go.mod
# make test    everything a fresh machine needs to pass the tests, and the tests
# make bench   the benchmarks, each a ratio within one run
# make fuzz    every fuzz target for a short while

GO            ?= go
GOLANGCI_LINT ?= $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME      ?= 20s

.PHONY: build check lint test unit prerequisites bench fuzz

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/ipuka ./cmd/ipuka

check: lint unit
	$(GO) mod tidy -diff

lint:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w these:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GOLANGCI_LINT) run ./...

unit:
	$(GO) test -race -timeout 20m ./...

test: prerequisites unit

# What the tests talk to, besides Go: a browser and PostgreSQL. On Debian and Ubuntu
# root gets them installed; everybody else is told what is missing.
prerequisites:
	@sh .ci/prerequisites

bench:
	$(GO) test -run '^$$' -bench . -benchmem -timeout 60m ./...

fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done
