# What a developer types. `make` alone lists the targets.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Many tests wait for real servers, so four files run at a time; a file's tests share servers.
# In the order of collection: the longest files begin (tests/support/durations.py).
PARALLEL ?= -n 4 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links --no-config
# The oldest version that is still supported; nothing in k8s/ needs a newer one.
KUBERNETES := 1.35.0
SCHEMAS := $(BIN)/kubernetes-validate --quiet --strict --kubernetes-version $(KUBERNETES)
# Production has images by digest, and is not built before a site has pinned them.
PRODUCTION := k8s/overlays/production
# The Prometheus Operator's kinds have no schema there; tests/unit/test_monitoring.py looks at them.
MONITORING := k8s/overlays/monitoring
BUILDABLE := $(filter-out $(MONITORING)/ $(if $(wildcard $(PRODUCTION)/pinned-images),,$(PRODUCTION)/),\
	k8s/base/ $(wildcard k8s/overlays/*/))
CODE := pgben_tasks workers tests benchmarks beat_schedule.py

# Where it is set, as in some containers, every process of the demo and the tests would compile all
# modules anew, which takes a worker longer than the rest of its start.
unexport PYTHONDONTWRITEBYTECODE

define CHECK_PYTHON
import sys
if sys.version_info < (3, 11):
    sys.exit("pgben needs Python 3.11 or newer, and '%s' is %d.%d: install python3.11 or newer, or "
             "name one with `make PYTHON=python3.12 ...`" % ((sys.executable,) + sys.version_info[:2]))
try:
    import ensurepip, venv
except ImportError:
    sys.exit("'%s' cannot make virtual environments: install its venv package (Debian, Ubuntu: "
             "`apt-get install python3-venv`)" % sys.executable)
endef
export CHECK_PYTHON

.PHONY: help setup demo test conformance test-days interruptions lint format bench clean lock configuration man \
	catalogues pictures report-pictures system-tools

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.stamp ## Make .venv with everything that demo and tests need

# The lock and the project's own metadata decide what is installed; nothing else is. The lock is
# whole, so pip resolves nothing (--no-deps): older ones take 'coverage[toml]' for something that
# the lock does not pin, and fail as soon as there is a newer release. `pip check` proves it whole.
$(VENV)/.stamp: requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
		echo "'$(PYTHON)' was not found: install Python 3.11 or newer with its venv package" >&2; exit 1; }
	@$(PYTHON) -c "$$CHECK_PYTHON"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --require-hashes --no-deps -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	$(PIP) check
	@touch $@

demo: setup ## Back up, verify and restore a real database, on this machine, in a minute
	$(BIN)/pgben demo

ifeq ($(COVERAGE),1)
test: setup
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=90
	$(BIN)/coverage report --include='pgben_tasks/domain/*' --fail-under=100
else
test: setup ## Run every test; ARGS="-m unit" chooses, COVERAGE=1 also measures what they reach
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)
endif

conformance: setup ## Try every PostgreSQL client with servers of 14 to 18 (fetches servers with npm)
	$(BIN)/python -m tests.support.majors

test-days: setup ## Run the tests that read the date on each of the next DAYS=40 days (needs cc)
	$(BIN)/python -m tests.support.other_days 1-$(or $(DAYS),40)

interruptions: setup ## Interrupt a restore of everything, in place, at COUNT=10 seeded moments
	$(BIN)/python -m pytest tests/end_to_end/test_restore_all.py -k interrupts -v \
		--interruptions $(or $(COUNT),10)

lint: setup ## Check style, types and the layers
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	$(SCHEMAS) $(filter-out %/kustomization.yaml,$(wildcard k8s/base/*.yaml k8s/overlays/platform-policies/*.yaml)) \
		$(MONITORING)/network-policies.yaml
	@if kubectl version --client 2>/dev/null | grep -q Kustomize; then set -e; for folder in $(BUILDABLE); do \
		built=$$(kubectl kustomize $$folder); printf '%s\n' "$$built" | $(SCHEMAS) -; done; \
		kubectl kustomize $(MONITORING) >/dev/null; \
	else echo "kubectl is not there or too old: the overlays of k8s/ were not built" >&2; fi
	@if [ -e $(PRODUCTION)/pinned-images ]; then sh $(PRODUCTION)/images.sh check; fi
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile; \
	else echo "hadolint has no package for this machine: Dockerfile was not checked" >&2; fi

format: setup ## Format the code
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix --select I $(CODE)

bench: setup ## Measure backups against pg_dump and rclone; ARGS="--help" tells more
	$(BIN)/python -m benchmarks $(ARGS)

configuration: setup ## Write docs/configuration.md, in both languages, from the settings
	$(BIN)/python -m tests.support.configuration_page

man: setup ## Write the manual page docs/pgben.1 from the commands
	$(BIN)/python -m tests.support.manual_page > docs/pgben.1.new
	mv docs/pgben.1.new docs/pgben.1

pictures: setup ## Take the pictures of docs/ anew; look at them before they are committed
	$(BIN)/python -m tests.support.console_pictures
	$(BIN)/python -m tests.support.report_pictures

report-pictures: setup ## Take only those of docs/report.md anew
	$(BIN)/python -m tests.support.report_pictures

catalogues: setup ## Collect the texts of the code for the translators and compile their catalogues
	$(BIN)/python -m tests.support.catalogue

lock: setup ## Choose versions anew and pin them by hash
	$(COMPILE) --upgrade --extra worker --extra flower --extra embedded --extra report --extra dev \
		--output-file requirements/dev.txt pyproject.toml
	$(COMPILE) --constraint requirements/dev.txt --extra worker --extra flower --extra report \
		--output-file requirements/worker.txt pyproject.toml
	echo hatchling | $(COMPILE) --constraint requirements/dev.txt \
		--output-file requirements/build.txt -

system-tools: ## Install what a restore by hand needs (age, zstd, openssl) and programs of tests (Debian)
	@missing=$$(for tool in age zstd openssl zsh fish mandoc groff chromium-headless-shell curl; do \
		command -v $$tool >/dev/null || echo $$tool; done; \
		command -v systemd-analyze >/dev/null || echo systemd; \
		command -v cc >/dev/null || echo gcc libc6-dev); \
	set -- $$missing; \
	if [ $$# -eq 0 ]; then echo "every program is there"; exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
		echo "install $$* with this system's package manager; only Debian's is known here" >&2; exit 1; fi; \
	as_root=; \
	if [ "$$(id -u)" != 0 ]; then \
		command -v sudo >/dev/null || { echo "installing $$* needs root, and there is no sudo" >&2; exit 1; }; \
		as_root=sudo; fi; \
	$$as_root apt-get -qq update && \
	$$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$$@"

clean: ## Remove what was built, .venv included
	rm -rf $(VENV) build dist htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
