# mlxdyno. `make help` lists what can be asked for.
.DEFAULT_GOAL := help
SHELL := /bin/bash

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO      := CGO_ENABLED=0 go
BUILD   := $(GO) build -trimpath -ldflags '-s -w -X main.Version=$(VERSION)'
BIN     := bin/mlxdyno

# The property tests draw the same cases each time. `make properties` draws others.
export RAPID_SEED ?= 1

# Packages that touch no MLX: quick, run in parallel and under the race detector.
# The others need what setup made and run one after another, so that they do not
# share cores.
REAL := ./cmd/... ./mlxbind/... ./trainer/native/... ./trainer/mlxlm/... ./trainer/data/... ./trainer/demo/...
PURE  = $(shell go list ./... | grep -v -E '/(cmd|mlxbind|trainer/(native|mlxlm|data|demo))(/|$$)')

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/mlxdyno
	@mkdir -p bin
	$(BUILD) -o $(BIN) ./cmd/mlxdyno

.PHONY: setup
setup: build ## make the managed Python environment with MLX (once; does nothing when it is there)
	@$(BIN) setup

.PHONY: demo
demo: setup ## the whole line on a small real model and real text: doctor, tune, train --auto
	@$(BIN) demo

.PHONY: test
test: setup ## every test; those that train use the environment that setup made
	$(GO) test $(PURE)
	$(GO) test -p=1 -count=1 -timeout 20m $(REAL)

.PHONY: parity
parity: setup ## our trainer against mlx-lm's, number by number: a table of every family in every form
	@set -o pipefail; $(GO) test -count=1 -v -run '^TestLogitsEqualMLXLM$$' ./trainer/native/decoder | grep -v -E '^ *(===|---|\[INFO\])'
	@set -o pipefail; $(GO) test -count=1 -v -timeout 30m -run '^TestParityTable$$' ./trainer/native -parity.full | grep -v -E '^ *(===|---)'

.PHONY: race
race: ## the packages without MLX, under the race detector
	CGO_ENABLED=1 go test -race $(PURE)

.PHONY: race-worker
race-worker: setup ## workers of our own trainer, and MLX with them, under the race detector
	CGO_ENABLED=1 go test -race -count=1 -run 'TestGarbageCollection|TestConformance' ./trainer/native

KILLS ?= 200
.PHONY: kills
kills: setup ## kill KILLS (200) workers and searches at random moments; every training that goes on must be bit-equal, every search come to the same end
	$(GO) test -count=1 -timeout 60m -run 'TestConformance/resume' ./trainer/native -kills $(KILLS)
	$(GO) test -count=1 -timeout 60m -run 'TestKills' ./tuner -kills $(KILLS)

.PHONY: check
check: format lint race cross ## what must hold before a commit: format, lint, race, builds for every platform

.PHONY: format
format: ## fail if gofmt would change something, or go.mod is not tidy
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt these:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go mod tidy -diff

.PHONY: lint
lint: ## go vet and golangci-lint, the import table of docs/architecture.md included
	go vet ./...
	go tool -modfile=golangci.mod golangci-lint run
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...

.PHONY: cross
cross: ## build for darwin/arm64, linux/amd64 and linux/arm64
	GOOS=darwin GOARCH=arm64 $(BUILD) -o build/darwin-arm64/mlxdyno ./cmd/mlxdyno
	GOOS=linux  GOARCH=amd64 $(BUILD) -o build/linux-amd64/mlxdyno  ./cmd/mlxdyno
	GOOS=linux  GOARCH=arm64 $(BUILD) -o build/linux-arm64/mlxdyno  ./cmd/mlxdyno

CHECKS ?= 1000
.PHONY: properties
properties: ## every property test with CHECKS (1000) cases that were not drawn before; what fails prints how to see it again
	RAPID_SEED=0 RAPID_CHECKS=$(CHECKS) $(GO) test -count=1 -timeout 120m $(PURE)

# A count, not a time: Go's fuzzer now and then reports its own deadline as a failure.
FUZZTIME ?= 30000x
.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30000x)
	@set -e; for p in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p; done; done

.PHONY: bench
bench: ## Go benchmarks; see docs/benchmarks.md for the last results
	$(GO) test -run '^$$' -bench . -benchmem $(PURE)

.PHONY: bench-bind
bench-bind: setup ## what the binding to MLX costs: operations, callbacks, the way to MLX's thread
	$(GO) test -run '^$$' -bench . -benchmem ./mlxbind

.PHONY: bench-step
bench-step: setup ## steps of our trainer and of mlx-lm's, in turns, same BLAS and threads: f32, bf16, 8 and 4 bits
	$(BIN) bench --suite fixed --rounds 5 --steps 8

.PHONY: bench-growth
bench-growth: setup ## the same over batch, length and rank
	$(BIN) bench --suite growth --rounds 2 --steps 6

.PHONY: bench-real
bench-real: setup ## the demo's text: useful tokens/s, and the validation loss that they lead to
	$(BIN) bench --real --rounds 3 --steps 117 --variant iters=126

# There it needs the binary, Python, MLX's CUDA wheel and mlx-lm alone; the last two come with `setup --venv`.
.PHONY: bench-gpu
bench-gpu: setup ## the 8B shape with random weights on a GPU of 80 GB and more, within 8 minutes
	$(BIN) bench --suite 8b --rounds 1 --warmup 10 --steps 6 --deadline 8m

.PHONY: bench-predict
bench-predict: setup ## predicted peaks and times of shapes and ranks that took no part in the fit, against bursts; goes on where it was cut off
	OPENBLAS_NUM_THREADS=1 $(BIN) bench --suite predict --deadline 8m # two threads on two cores wait for each other whenever anything else runs

.PHONY: bench-cap
bench-cap: setup ## 500 steps with what tune finds under caps that the default configuration exceeds
	$(BIN) bench --suite cap --steps 500

SEEDS ?= 100
TABLE ?= cpu
.PHONY: bench-replay
bench-replay: ## tune against other searches on a table of real bursts (TABLE=cpu or h200), SEEDS (100) times each; PYTHON=one with optuna 5, torch and scipy asks it anew
	@set -o pipefail; $(GO) test -count=1 -v -timeout 120m -run '^TestReplay$$' ./tuner/replay -replay.seeds $(SEEDS) -replay.table testdata/$(TABLE).jsonl $(if $(PYTHON),-replay.python $(PYTHON)) | grep -v -E '^ *(===|---|PASS|ok )'

.PHONY: bench-replay-table
bench-replay-table: setup ## record the table of a CPU: 420 processes, a quarter of an hour; goes on where it was stopped (move the old one away first); on a GPU: bench replay-table --space 1b
	$(BIN) bench replay-table --out tuner/replay/testdata/cpu.jsonl

.PHONY: bench-quick
bench-quick: setup ## doctor --quick, as a process of its own: median below 200 ms
	$(GO) test -run '^$$' -bench '^BenchmarkDoctorQuick$$' -benchtime 50x ./cmd/mlxdyno

.PHONY: bench-instrument
bench-instrument: setup ## what it costs to say every step: steps that do and steps that do not, in turns
	$(GO) test -run '^$$' -bench Instrumentation -benchtime 100x -timeout 20m ./trainer/native

.PHONY: shim-matrix
shim-matrix: ## compile the binding against every MLX on the package index that it supports
	mlxbind/shim/matrix.sh

.PHONY: docs
docs: ## write docs/checks.md from the stories of the checks
	$(GO) test -run '^TestChecksPage$$' ./report -update

.PHONY: clean
clean: ## remove what was built here; the managed environment stays
	rm -rf bin build
