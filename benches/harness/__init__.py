"""The parts of the benchmark harness; `run.py` beside this package puts them together."""
