"""The pure core: values, functions and small state machines, in the order that a record meets them.

`record` → `split` → `registry` → `batch` → `plan` → `ledger`. Nothing here touches Kafka, Elasticsearch,
ONNX, a clock or the environment.
"""
