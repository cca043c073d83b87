# Everything a person runs here. Needs Rust (rust-version in Cargo.toml says which) and Python 3.9 or newer.
#
#   make demo         build, and serve examples/django at http://127.0.0.1:8000
#   make test         every test that needs nothing but Rust and Python
#   make test-peers   the tests beside nginx and gunicorn (needs the system's nginx)
#   make bench        the figures of benches/RESULTS.md (needs nginx, wrk, h2load, openssl); ONLY=static QUICK=1
#   make release      the fastest build, trained by the works of make bench: target/trained/release/monoceros
#   make lint         what CI refuses: format, clippy, the levels of the crates, stale documentation
#   make docs         write docs/reference, the man page and the shell completions anew
#   make clean        remove all that was built or installed here

PYTHON ?= python3
BIND ?= 127.0.0.1:8000
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
VENV := .venv

export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test test-rust test-examples test-python test-peers bench release lint docs clean

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

demo:
	cargo build --release -p monoceros
	@examples/demo.sh $(TARGET)/release/monoceros $(BIND) $(ARGS)

# The Python tests come last: they are the ones that drive the whole program.
test: test-rust test-examples test-python

test-rust:
	@command -v cargo-nextest >/dev/null || cargo install cargo-nextest --locked
	cargo nextest run --workspace

test-examples: $(VENV)/installed
	@data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && \
	    SHOP_DATA_DIR="$$data" PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python examples/django/manage.py test catalogue

# MONOCEROS: the binary under test. TESTS and PYTEST_ARGS narrow a run: make test-python TESTS=tests/test_static.py
TESTS ?= tests benches $(wildcard python/tests)
test-python: $(VENV)/installed
	cargo build -p monoceros
	MONOCEROS=$(TARGET)/debug/monoceros $(VENV)/bin/python -m pytest --ignore tests/peers $(TESTS) $(PYTEST_ARGS)

test-peers: $(VENV)/installed
	@command -v nginx >/dev/null || { echo "make test-peers needs nginx (Debian, Ubuntu: apt-get install nginx-light)" >&2; exit 1; }
	cargo build -p monoceros
	MONOCEROS=$(TARGET)/debug/monoceros $(VENV)/bin/python -m pytest tests/peers $(PYTEST_ARGS)

REQUIREMENTS := tests/requirements.txt tests/peers-requirements.txt examples/django/requirements.txt examples/flask/requirements.txt

$(VENV)/installed: $(REQUIREMENTS)
	$(PYTHON) -m venv --clear $(VENV) || { echo "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt -r tests/peers-requirements.txt
	touch $@

# BINARY: another build than the usual one, as that of make release.
bench:
	$(if $(BINARY),,cargo build --release -p monoceros)
	$(PYTHON) benches/run.py --monoceros $(or $(BINARY),$(TARGET)/release/monoceros) $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick) $(ARGS)

release:
	$(PYTHON) benches/release.py --target $(TARGET)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo run --quiet -p layers
	cargo run --quiet -p config --example gendocs -- docs --check

docs:
	cargo run --quiet -p config --example gendocs -- docs

clean:
	cargo clean
	rm -rf $(VENV) benches/.venv examples/django/.venv examples/django/staticfiles examples/django/media
	rm -f examples/django/db.sqlite3 examples/django/.secret-key
