"""Runs the benchmark: ``python -m benchmarks [megabytes]``."""

from __future__ import annotations

import sys

from benchmarks.chain import main

if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 150)
