# Every target sets up what it needs; see scripts/setup.sh. Works from any folder (make -C, make -f).
ROOT := $(shell cd "$$(dirname '$(strip $(MAKEFILE_LIST))')" && pwd)

.DEFAULT_GOAL := help
.PHONY: help run test lint docs constraints clean

help:  ## Show this list
	@echo "Targets:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' '$(ROOT)/Makefile' | expand -t 20

run:  ## Open napari on a sample image with the docks (make run IMAGE=file opens yours)
	@'$(ROOT)/scripts/run.sh' $(if $(IMAGE),'$(IMAGE)')

test:  ## Lint, then every test in a real window (make test PYTEST_ARGS="-k tiles")
	@'$(ROOT)/scripts/test.sh' $(PYTEST_ARGS)

lint:  ## ruff, flake8, mypy and the import rules
	@'$(ROOT)/scripts/setup.sh' dev
	@'$(ROOT)/scripts/lint.sh'

docs:  ## Build the documentation into site/
	@'$(ROOT)/scripts/setup.sh' dev
	@cd '$(ROOT)' && NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict

constraints:  ## Resolve all dependencies anew and rewrite constraints.txt
	@'$(ROOT)/scripts/constraints.sh'

clean:  ## Remove the environment and everything that was built
	@cd '$(ROOT)' && rm -rf .venv build dist site output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
