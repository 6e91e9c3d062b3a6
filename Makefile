# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
all:
	@test -x .venv/bin/python || (python3 -m venv .venv && .venv/bin/pip install -q --disable-pip-version-check -U setuptools wheel cffi)
	@.venv/bin/python build.py
	@test -e .venv/.installed || (.venv/bin/pip install -q --disable-pip-version-check --no-build-isolation -e '.[dev]' && touch .venv/.installed)
