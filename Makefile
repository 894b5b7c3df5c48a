# `make run` starts chatd for a trial, `make check` and `make test` check it. CONTRIBUTING.md explains the rest.

# Without bytecode every start of chatd, chatctl and pytest would compile all modules again: half a second each.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
RUN_STAMP := $(VENV)/.run-installed
DEV_STAMP := $(VENV)/.dev-installed
JS_TOOLS := $(VENV)/js
JS_STAMP := $(JS_TOOLS)/.installed
PAGE_STAMP := $(VENV)/page/.installed
VAR ?= var
ROOT_FLAG := $(if $(filter 0,$(shell id -u)),--allow-root)

# The tests of `make check`: those that start no processes and depend on neither sockets nor timing.
FAST_TESTS := $(wildcard tests/test_layers.py tests/test_docs.py tests/test_orders.py tests/test_scoreboard.py \
	tests/test_sources.py tests/test_ranking.py tests/test_security_log.py tests/test_repeats.py tests/test_strict_modes.py \
	tests/test_arguments.py tests/test_constraints.py tests/test_client_reference.py \
	tests/master/test_upgrade_state.py tests/test_background.py tests/config tests/texts tests/wire tests/core tests/hooks \
	tests/store/test_group_commit*.py tests/store/sqlite tests/harness tests/chatctl/show/test_server.py tests/test_runbook.py \
	tests/net/websocket/test_handshake.py tests/net/websocket/test_frames.py \
	tests/net/test_proxy_header.py tests/client/test_commands.py \
	$(addprefix tests/chatd_client/test_,acknowledger.py address.py errors.py frames.py framing.py inbox.py memory.py packets.py \
	requests.py sender.py state.py))

.DEFAULT_GOAL := help
.PHONY: help run install constraints tools test test-slow format docs bench clean wheels deb release
.PHONY: check check-static check-format check-lint check-types check-layers check-js check-fast

help:
	@echo "make run        start chatd in the foreground, with its data under ./var"
	@echo "make test       run all tests except the slow ones (installs what they need)"
	@echo "make test-slow  run the long versions of the fault tests"
	@echo "make check      check format, lint, types and layers, and run the fast tests; about a minute"
	@echo "make docs       regenerate the sample configuration, the manual pages and the tables in docs/"
	@echo "make bench      build and run the benchmarks; rewrites the figures in docs/benchmarks.md"
	@echo "make constraints  write constraints.txt and constraints-dev.txt again, after a change of pyproject.toml"
	@echo "make format     format the code, and fix what ruff can fix"
	@echo "make deb        build the Debian package, for the Python of this host, into build/"
	@echo "make wheels     build the wheel of chatd, and get those of all that it needs, into build/wheels"
	@echo "make release VERSION=1.2.3  make a release: version, CHANGELOG.md, commit and tag"
	@echo "make clean      remove everything that was built (not ./var)"

# ---------------------------------------------------------------- setting up

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Nothing is installed whose hash is not in these files, the build backend included. Only mysqlclient is built from source.
INSTALL := $(PIP) install --require-hashes --requirement
INSTALL_CHATD := $(PIP) install --no-deps --no-build-isolation --editable .

$(RUN_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) constraints.txt --only-binary :all:
	$(INSTALL_CHATD)
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt constraints-dev.txt | $(BIN)/python
	@.ci/tools gcc pkg-config mariadb_config=libmariadb-dev
	$(INSTALL) constraints.txt --only-binary :all:
	$(INSTALL) constraints-dev.txt --no-build-isolation
	$(INSTALL_CHATD)
	@touch $(RUN_STAMP) $@

install: $(DEV_STAMP)

# What checks the JavaScript client, and the chat page, by their lock files. It is not beside the client, which would carry
# it into every copy.
$(JS_STAMP): clients/js/package.json clients/js/package-lock.json
$(PAGE_STAMP): tests/web/tools/package.json tests/web/tools/package-lock.json
$(JS_STAMP) $(PAGE_STAMP):
	@.ci/tools node=nodejs npm
	@mkdir -p $(@D)
	@cp $^ $(@D)
	@cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

# After a change of pyproject.toml. For newer versions: make constraints UPGRADE=--upgrade. It needs the network.
constraints: | $(BIN)/python
	@$(PYTHON) -m venv $(VENV)/constraints
	@$(VENV)/constraints/bin/pip --disable-pip-version-check --quiet install uv
	$(BIN)/python docs/constraints.py $(VENV)/constraints/bin/uv $(UPGRADE)

# What builds wheels and the Debian package, for the Python of this host, not that of .venv: a package depends on it.
HOST_PYTHON := /usr/bin/python3
PACKAGING_TOOLS := gcc pkg-config mariadb_config=libmariadb-dev $(HOST_PYTHON)=python3 $(HOST_PYTHON)-config=python3-dev \
	/usr/share/python-wheels=python3-venv dh=debhelper dpkg-buildpackage=dpkg-dev

tools: $(JS_STAMP) $(PAGE_STAMP)
	@.ci/tools g++ node=nodejs php=php-cli promtool=prometheus /usr/include/openssl/ssl.h=libssl-dev strace chromium chromium-headless-shell openssl \
		/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf=fonts-dejavu-core \
		/usr/share/fonts-droid-fallback/truetype/DroidSansFallback.ttf=fonts-droid-fallback \
		redis-server mariadbd=mariadb-server haproxy rabbitmq-server \
		nginx /usr/lib/nginx/modules/ngx_stream_module.so=libnginx-mod-stream ip=iproute2 sysctl=procps \
		fail2ban-regex=fail2ban systemd-nspawn=systemd-container dbus-daemon=dbus logrotate \
		/usr/lib/python3/dist-packages/systemd/journal.py=python3-systemd \
		zsh fish man=man-db mandoc /usr/share/bash-completion/bash_completion=bash-completion $(PACKAGING_TOOLS)

# ---------------------------------------------------------------- running

$(VAR)/chatd.toml:
	@mkdir -p $(VAR)
	@cp etc/trial.toml $@

run: $(RUN_STAMP) $(VAR)/chatd.toml
	@echo "Starting chatd; its data is under ./$(VAR), its configuration is $(VAR)/chatd.toml. Ctrl-C stops it."
	@echo "Now open http://127.0.0.1:3080/ in a browser, make an account, and chat."
	@echo "Or open two more terminals here, and run in each:  $(BIN)/chat 127.0.0.1:6000"
	@echo "To see its state, run:                             $(BIN)/chatctl -c $(VAR)/chatd.toml status"
	@exec $(BIN)/chatd -c $(VAR)/chatd.toml $(ROOT_FLAG)

# ---------------------------------------------------------------- checking

test: $(DEV_STAMP) tools
	@$(BIN)/pytest -n 4 --dist loadgroup --reruns 1 --reruns-delay 1

test-slow: $(DEV_STAMP) tools
	@.ci/tools lintian
	@$(BIN)/pytest -m slow --timeout 1800

check: check-static check-fast

# The part of `make check` that `make test` does not repeat.
check-static: check-format check-lint check-types check-layers check-js

check-format: $(DEV_STAMP)
	$(BIN)/ruff format --check .

check-lint: $(DEV_STAMP)
	$(BIN)/ruff check .

check-types: $(DEV_STAMP)
	$(BIN)/mypy

check-layers: $(DEV_STAMP)
	$(BIN)/lint-imports --no-logo

# Syntax, types, and no line over 120 characters.
check-js: $(JS_STAMP)
	@node --check clients/js/chatd.js
	@$(JS_TOOLS)/node_modules/.bin/tsc --noEmit --project clients/js
	@! grep --line-number --extended-regexp '.{121}|\s$$' clients/js/chatd.js

check-fast: $(DEV_STAMP)
	$(BIN)/pytest --quiet -n 2 $(FAST_TESTS)

format: $(DEV_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV_STAMP)
	$(BIN)/python docs/generate.py

bench: $(DEV_STAMP) tools
	$(BIN)/python bench/run.py
	$(BIN)/python bench/cluster.py

# ---------------------------------------------------------------- packages

wheels:
	@.ci/tools $(PACKAGING_TOOLS)
	@packaging/wheels $(HOST_PYTHON) build/wheels

deb: wheels
	@WHEELS=build/wheels packaging/build-deb build

release: $(DEV_STAMP)
	@$(BIN)/python packaging/release.py "$(VERSION)"

clean:
	rm -rf $(VENV) bench/build build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
