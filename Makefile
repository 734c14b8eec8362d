# nymph: `make help` lists the targets. Everything works on a Debian 12 with git, make and any Node 18 or later with npm.
SHELL := /bin/sh
NODE := node_modules/node/bin/node
PREFIX ?= /usr/local
DESTDIR ?=
VERSION = $(shell sed -n 's/^  "version": "\(.*\)",/\1/p' package.json)
NAME = nymph-$(VERSION)-linux-$(shell uname -m | sed 's/x86_64/x64/;s/aarch64/arm64/')
# Of the last commit: the same sources make the same archive, whenever that is.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
SOURCES := $(shell find src -name '*.ts' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: stage help deps build plugins check test test-unit test-root test-dragonfly fuzz chaos soak demo bench clean system-deps install uninstall dist deb audit

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## Mounts the image in fixtures/ from a registry 10 ms away, runs a program in it, compares with a full download
	@$(NODE) bench/demo.ts

test: build system-deps check ## Installs what is needed and runs every test (root, for FUSE and EROFS)
	@$(NODE) test/run.ts

test-unit: deps ## Only the tests that need no root
	@$(NODE) test/run.ts unit

test-dragonfly: build ## Images through a real Dragonfly: needs `scheduler` and `dfdaemon` on the PATH, root
	@$(NODE) test/run.ts dragonfly

chaos: build system-deps ## Kills and stops daemon, supervisor, containerd and registry under running containers, MINUTES=10 long
	@$(NODE) test/chaos/main.ts --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)

soak: build system-deps ## A node works while all around it fails, MINUTES=10 long: registry, Dragonfly, disk, clock, memory, processes; JSON=1
	@$(NODE) test/soak/main.ts --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1) $(if $(JSON),--json)

fuzz: deps ## Looks for inputs that readers cannot stand: TIME=10 seconds for each, or RUNS=10000000; TARGET=…, SEED=…, KEEP=1
	@$(NODE) --disable-warning=ExperimentalWarning test/fuzz/main.ts

build: dist/.built plugins/built/.built ## Installs the dependencies, compiles to dist/, builds the drivers of model hubs

plugins: plugins/built/.built ## Only the drivers of model hubs: WebAssembly components out of plugins/*.ts

check: deps ## Types, lint and format
	@npm run --silent check

bench: build system-deps ## Paired measurements against ext4, curl and a full download: a table of ratios
	@$(NODE) bench/main.ts

install: stage ## Installs into PREFIX (/usr/local), below DESTDIR; needs no npm where it runs
	@sh build/$(NAME)/deploy/install.sh --prefix "$(PREFIX)" $(if $(DESTDIR),--destdir "$(DESTDIR)")

uninstall: ## Takes that away again; configuration and cache are left
	@sh deploy/install.sh --uninstall --prefix "$(PREFIX)" $(if $(DESTDIR),--destdir "$(DESTDIR)")

dist: stage ## build/nymph-VERSION-linux-ARCH.tar.gz: runs, and installs, on a machine without npm
	@tar -C build --sort=name --mtime=@$(SOURCE_DATE_EPOCH) --owner=0 --group=0 --numeric-owner -cf - $(NAME) | gzip -n >build/$(NAME).tar.gz
	@cd build && sha256sum $(NAME).tar.gz >$(NAME).tar.gz.sha256 && cat $(NAME).tar.gz.sha256

stage: build
	@rm -rf build/$(NAME)
	@$(NODE) --disable-warning=ExperimentalWarning deploy/stage.ts build/$(NAME)

deb: stage ## build/nymph_VERSION_ARCH.deb, by dpkg-deb
	@SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) sh deploy/deb/build.sh build/$(NAME) $(VERSION) build/nymph_$(VERSION)_$$(dpkg --print-architecture).deb
	@ls build/*.deb

audit: ## Asks the package registry for known holes in what is shipped; says so where it cannot be asked
	@sh deploy/audit.sh

deps: node_modules/.installed

node_modules/.installed: package.json package-lock.json
	npm install --no-save --no-audit --no-fund --loglevel=error
	@touch $@

dist/.built: node_modules/.installed $(SOURCES) tsconfig.json tsconfig.build.json
	@rm -rf dist
	@npm run --silent build
	@touch $@

plugins/built/.built: node_modules/.installed $(wildcard plugins/*.ts plugins/*.wit src/plugins/*.ts)
	@$(NODE) --disable-warning=ExperimentalWarning plugins/build.ts
	@touch $@

# Real registries and tools for the tests; without root or apt those tests are skipped, aloud.
system-deps:
	@sh test/system-deps.sh

clean: ## Removes what was built and installed
	rm -rf dist build plugins/built node_modules
