"""The real pipeline, admission, ledger, planner and adapters, against an Elasticsearch and a log in memory.

`elastic` has Elasticsearch's rules (held against the real one by `tests/stack/test_rules.py`), `loop` an event loop
that runs one step at a time, `world` the workers, faults and invariants, `explore` the search through interleavings.
"""
