# `make` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help setup demo test verify lint clean lock
PY := .venv/bin/python
OUT ?= demo_out
JOBS ?= 2

help:
	@echo "make demo     from the sample CT to a report with a stent beside the baseline, in $(OUT)/"
	@echo "make test     the tests that must always hold (under 15 minutes)"
	@echo "make verify   the long benchmarks and the real scans (hours)"
	@echo "make lint     ruff and mypy"
	@echo "make lock     pin the newest libraries in requirements.lock (needs uv)"
	@echo "make clean    remove what make made, the environment apart"

setup: .venv/ready
.venv/ready: requirements.lock pyproject.toml bootstrap.sh
	@sh bootstrap.sh

demo: .venv/ready
	@$(PY) -P -m workflows.cli run sample_scans/aorta_ct $(OUT) --recipe aorta --jobs $(JOBS)
	@$(PY) -P -m workflows.cli compare $(OUT)/sub-* sample_scans/variants.yaml --jobs $(JOBS)

# Four parts, the longest first, $(JOBS) at a time; one that fails does not stop the others, and is told again last.
PARTS := end_to_end unit validation verification
test: .venv/ready lint
	@rm -rf build/tests
	@$(MAKE) --no-print-directory -k -j $(JOBS) $(PARTS:%=test-%) || \
	    { sed -n '/^=* FAILURES/,$$p;/^=* ERRORS/,$$p' build/tests/*.log | grep -v Warning; exit 1; }

# Shows what pytest says, keeps it, and ends with pytest's code.
test-%:
	@mkdir -p build/tests; { $(PY) -m pytest tests/$* $(and $(filter unit,$*),tests/test_architecture.py) 2>&1; \
	    echo $$? > build/tests/$*.code; } | tee build/tests/$*.log; exit $$(cat build/tests/$*.code)

verify: .venv/ready
	@$(PY) -m pytest -m verify

lint: .venv/ready
	@$(PY) -m ruff check .
	@$(PY) -m mypy

lock:
	@uv pip compile --universal --python-version 3.12 --generate-hashes --no-header --no-annotate --quiet \
	    --extra test pyproject.toml -o requirements.lock

clean:
	@rm -rf $(OUT) build dist *.egg-info .ruff_cache .mypy_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
