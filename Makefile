# make           builds both programs into bin/
# make demo      runs the main job on this machine, without root or configuration
# make bench     Go benchmarks, then whole runs against rsync (a quarter of an hour; see docs/BENCHMARKS.md)
# make deb       makes the Debian package in bin/ (docs/INSTALL.md); make deb-test installs it in two fresh
#                machines (containers with systemd, as root) and goes through INSTALL.md and DATABASES.md
# make test      installs what the tests need, then vets and tests everything under the race detector
#
# Variables:  PKG=./journal/...  limits test, bench and cover     RUN=Regexp  tests or benchmarks of this name
#             FUZZTIME=10s  for each fuzz target                  SOAK=30m    length of a soak
#             BENCHTIME=0.3s  for each Go benchmark         BENCH='-case big'  flags of the whole runs (go run ./bench -h)

GO        ?= go
PKG       ?= ./...
RUN       ?= .
FUZZTIME  ?= 10s
SOAK      ?= 30m
FAULTS    ?= 100
BENCHTIME ?= 0.3s
BENCH     ?= -rounds 3
# Two packages at a time: each has tests that use several cores.
PARALLEL ?= 2
# The slowest package takes minutes on two cores under the race detector.
TIMEOUT  ?= 14m

# What makes the package is no dependency of the module.
NFPM ?= $(GO) run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0

COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
LDFLAGS := -s -w -X repld/daemon.commit=$(COMMIT)

.PHONY: build deb deb-test demo test needs vet bench soak soak-databases soak-roles postgres mysql stress faults proof fuzz lint fmt cover generate clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/repld ./cmd/replctl

deb: build
	@GO='$(GO)' NFPM='$(NFPM)' scripts/deb.sh bin

deb-test: deb
	scripts/deb-test.sh bin/repld_*.deb

demo: build
	bin/repld demo

needs:
	@scripts/test-needs.sh

vet:
	$(GO) vet ./...

test: needs vet
	$(GO) test -race -p $(PARALLEL) -timeout $(TIMEOUT) -run '$(RUN)' $(PKG)

# The first part is in the form that benchstat compares.
bench: needs build
	$(GO) test -run '^$$' -bench '$(RUN)' -benchmem -benchtime $(BENCHTIME) -p 1 -timeout 0 $(PKG)
	$(GO) run ./bench $(BENCH)

# Two groups of one pair under one fault after the other, for SOAK; REPLD_FAULTS has
# the programs built as they are shipped. As root.
soak: needs
	REPLD_SOAK=$(SOAK) REPLD_FAULTS=1 $(GO) test -count=1 -timeout 0 -run '^TestSoak$$' -v ./internal/e2e

# A database and a tree for SOAK with each engine, as shipped: checked at every barrier that is applied between
# changes of role, under one fault after the other, each of them twice in ten minutes. As root.
soak-databases: needs
	REPLD_PROOF=1 REPLD_SOAK=$(SOAK) $(GO) test -count=1 -timeout 0 -run '^Test(Database|MariaDB|Redis)Soak$$' -v ./internal/e2e

# Roles change at random for SOAK, with and without an etcd, while machines end, daemons are
# killed at steps of plans, and the network is divided: one writer, nothing lost but what a
# ledger names. Before that the model of the roles is searched deeper. As root.
soak-roles: needs
	REPLD_CHECK_DEEP=100 $(GO) test -count=1 -timeout 0 ./role
	REPLD_SOAK=$(SOAK) $(GO) test -count=1 -timeout 0 -run '^TestRolesStorm' -v ./internal/e2e

# The gate, promotion and the change of sides with other versions of PostgreSQL: POSTGRES
# are directories of their programs (initdb, postgres, pg_ctl).
postgres: needs
	@[ -n '$(POSTGRES)' ] || { echo 'say which: make postgres POSTGRES="/usr/lib/postgresql/16/bin /opt/pg18/bin"' >&2; exit 2; }
	for dir in $(POSTGRES); do echo "$$dir" && REPLD_POSTGRES=$$dir $(GO) test -count=1 ./dblog/postgres || exit 1; done

# The same with MySQL, which Debian 12 hasn't: MYSQL is the directory of its programs
# (mysqld, mysqladmin). Without it one is fetched by apt's mirror and kept, not installed.
mysql: needs
	@dir='$(MYSQL)' && if [ -z "$$dir" ]; then dir=$$(scripts/mysql.sh /var/tmp/repld-mysql); fi && "$$dir/mysqld" --no-defaults --version && \
	REPLD_MYSQL=$$dir $(GO) test -count=1 -run '.*/mysql' ./dblog/binlog && REPLD_MYSQL=$$dir $(GO) test -count=1 -run '^(TestMySQL|TestBinlogServers)' ./preflight ./internal/e2e

# Tests that make up their input go on for SOAK in all, with a new seed each time.
stress: needs
	scripts/soak.sh '$(SOAK)' '$(PKG)'

# A Go toolchain, seeded while the compiler works in it, then git and rm -r, both
# sides killed in between; rsync must find no difference. Some minutes, as root.
proof: needs
	REPLD_PROOF=1 $(GO) test -count=1 -timeout 30m -run Proof -v ./internal/e2e

# Every test of a fault by its long form, as shipped: FAULTS rounds of each. As root.
faults: needs
	REPLD_FAULTS=$(FAULTS) $(GO) test -count=1 -timeout 0 -run 'KillLoop|Flipped|Damaged|Deleted|Stopped|Slow|Cut|Flood|Disk|Inodes|ReadOnly|Paused|Replaced|Lost' -v ./internal/e2e
	REPLD_FAULTS=$(FAULTS) $(GO) test -count=1 -timeout 0 -run 'ScratchBitsFlipped|BitFlips' -v ./apply ./durable/boltproof

fuzz:
	scripts/fuzz.sh '$(FUZZTIME)'

lint: vet
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "not formatted: $$unformatted" >&2; exit 1; }
	$(GO) test ./internal/layers
	@command -v golangci-lint >/dev/null || { echo 'golangci-lint 2.x is not here: go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@latest' >&2; exit 1; }
	golangci-lint run

fmt:
	gofmt -w $$(git ls-files '*.go')

cover: needs
	mkdir -p bin
	$(GO) test -p $(PARALLEL) -timeout $(TIMEOUT) -coverpkg ./... -coverprofile bin/cover.out $(PKG)
	$(GO) tool cover -func bin/cover.out | tail -n 1
	$(GO) tool cover -html bin/cover.out -o bin/cover.html

# Needs protoc and protoc-gen-go (Debian: protobuf-compiler; go install google.golang.org/protobuf/cmd/protoc-gen-go).
generate:
	$(GO) generate ./...

clean:
	rm -rf bin
