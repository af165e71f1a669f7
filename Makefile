# "make help" lists the targets. Needed: Go, make and a shell; everything else
# is fetched by Go, or left out with a word.

.DEFAULT_GOAL := build
.PHONY: build pkcs11 dev run test race check fmt format vet lint fuzz torture golden conform bench cover docs licenses vuln install dist clean help

# A change of Go's own version is a change of go.mod, nothing that a build does
# by itself.
GO       ?= go
VERSION  ?=
DATE     ?= $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || date -u +%Y-%m-%dT%H:%M:%SZ)
LDFLAGS  := -s -w $(if $(DATE),-X arca/internal/version.BuildDate=$(DATE)) $(if $(VERSION),-X arca/internal/version.Arca=$(VERSION))

ADDR     ?= 127.0.0.1:8200
ROOT     ?= root
TIME     ?= 30s
RUN      ?=
PKG      ?= ./...
KIND     ?= vault
REF      ?=
ARGS     ?=
FAULTS   ?=
SEED     ?=
KINDS    ?=

DESTDIR  ?=
ARCHS    ?= amd64 arm64
PREFIX   ?= /usr/local
UNITDIR  ?= /etc/systemd/system
SYSUSERSDIR ?= /usr/lib/sysusers.d

# testify is linked by libraries that export their test doubles; without this it would bring a second YAML parser along.
TAGS     := testify_yaml_fail

LINT     := $(GO) tool -modfile=tools/go.mod golangci-lint

build: ## build ./bin/arca, static and stripped
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -tags $(TAGS) -trimpath -buildvcs=false -ldflags "$(strip $(LDFLAGS))" -o bin/arca ./cmd/arca

pkcs11: ## build ./bin/arca with the seal "pkcs11", which needs cgo
	@mkdir -p bin
	CGO_ENABLED=1 $(GO) build -tags pkcs11,$(TAGS) -trimpath -buildvcs=false -ldflags "$(strip $(LDFLAGS))" -o bin/arca ./cmd/arca

dev: build ## build and start a dev server (ADDR=127.0.0.1:8200 ROOT=root), which tells how to use it
	@echo
	@echo "For the other terminal: export PATH=$(CURDIR)/bin:\$$PATH VAULT_TOKEN=$(ROOT)"
	@echo
	@exec bin/arca server -dev -dev-no-store-token -dev-root-token-id=$(ROOT) -dev-listen-address=$(ADDR)

run: dev

test: ## run all tests, with the race detector where it can be had
	@tools/packages.sh; race=$$(tools/race.sh) && set -x && $(GO) test -timeout 30m $$race $(if $(RUN),-run '$(RUN)') $(PKG)
	@[ '$(PKG)' != ./... ] || [ -z "$$(tools/race.sh)" ] || { set -x; CGO_ENABLED=1 $(GO) test -race -tags pkcs11 ./internal/server/hsm ./internal/server/seals ./internal/server/kms; }

race: ## run all tests with the race detector, ten times, in random order
	CGO_ENABLED=1 $(GO) test -race -count=10 -shuffle=on $(if $(RUN),-run '$(RUN)') $(PKG)

check: format vet lint test ## what every change must pass: format, vet, lint, test

format: ## list files that are not in gofumpt's form
	@bad=$$($(GO) tool gofumpt -l cmd internal test third_party) && { [ -z "$$bad" ] || { echo "not formatted (make fmt):"; echo "$$bad"; exit 1; }; }

fmt: ## bring all files into gofumpt's form
	$(GO) tool gofumpt -l -w cmd internal test third_party

vet:
	$(GO) vet ./...

lint: ## run the linters of .golangci.yml; complex functions are shown as warnings
	$(LINT) run ./...
	@$(LINT) run --enable-only cyclop --issues-exit-code 0 --show-stats=false ./... | sed 's/^/warning: /'

fuzz: ## run every fuzz target in turn for TIME (30s, or 1000x)
	tools/fuzz.sh $(TIME)

torture: ## do FAULTS=500 faults to a cluster of three, and check what its clients saw (SEED= repeats one order, KINDS= 'failing|clock', say, picks some)
	ARCA_TORTURE_FAULTS=$(or $(FAULTS),500) ARCA_TORTURE_SEED=$(SEED) ARCA_TORTURE_KINDS='$(KINDS)' $(GO) test ./test -run '^TestTorture$$' -count=1 -timeout 4h -v

golden: ## write the golden files anew; read the difference like code
	@pkgs=$$(grep -rlE 'flag\.Bool\("update"' --include='*_test.go' cmd internal | xargs -r -n1 dirname | sort -u | sed 's,^,./,'); \
	if [ -z "$$pkgs" ]; then echo "no package has golden files"; else set -x; $(GO) test -count=1 $$pkgs -update; fi
	git diff --stat

conform: build ## play recorded scenarios against ./bin/arca (KIND=vault REF= folder of the runner, ARGS='-area kv')
	conformance/run.sh $(KIND) '$(REF)' $(ARGS)

bench: ## run the benchmarks (RUN= a pattern, PKG= a package)
	$(GO) test -run '^$$' -bench '$(or $(RUN),.)' -benchmem $(PKG)

cover: ## write cover.out and cover.html, show the share per function at the end
	$(GO) test -coverpkg=./internal/... -coverprofile=cover.out ./...
	$(GO) tool cover -html=cover.out -o cover.html
	$(GO) tool cover -func=cover.out | tail -1

docs: ## show the texts of all packages
	@for p in $$($(GO) list ./...); do echo "=== $$p"; $(GO) doc $$p | sed -n '/^const\|^func\|^type\|^var/q;p'; done

licenses: ## list the licences of all that the program links; fails on one that may not be linked
	@$(GO) test ./internal/archtest -count=1 -v -run '^TestLicenses$$' | sed -n 's/^ *licenses_test.go:[0-9]*: //p;/^--- FAIL/p' | tee .licenses.out; \
	grep -q '^--- FAIL' .licenses.out; bad=$$?; rm -f .licenses.out; [ $$bad -ne 0 ]

vuln: ## look the linked code up in Go's database of vulnerabilities (needs the internet)
	$(GO) tool -modfile=tools/go.mod govulncheck ./...

install: ## install bin/arca with the links vault and kes, and what systemd needs (DESTDIR, PREFIX, UNITDIR, SYSUSERSDIR)
	@[ -x bin/arca ] || { echo "run make first" >&2; exit 1; }
	install -D -m 0755 bin/arca $(DESTDIR)$(PREFIX)/bin/arca
	ln -sf arca $(DESTDIR)$(PREFIX)/bin/vault
	ln -sf arca $(DESTDIR)$(PREFIX)/bin/kes
	install -D -m 0644 deploy/systemd/arca.service $(DESTDIR)$(UNITDIR)/arca.service
	install -D -m 0644 deploy/systemd/arca.sysusers $(DESTDIR)$(SYSUSERSDIR)/arca.conf
	install -D -m 0644 deploy/config/arca.hcl $(DESTDIR)$(PREFIX)/share/arca/arca.hcl
	install -D -m 0644 README.md $(DESTDIR)$(PREFIX)/share/doc/arca/README.md

dist: ## write dist/vault_<version>_linux_<arch>.zip (ARCHS="amd64 arm64"), each with one executable, vault
	VERSION='$(VERSION)' LDFLAGS='$(strip $(LDFLAGS))' tools/dist.sh dist $(ARCHS)

clean: ## remove what was built
	rm -rf bin dist cover.out cover.html

help: ## list the targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do printf '  %-10s %s\n' "$$name" "$$text"; done
