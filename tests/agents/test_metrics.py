"""The metrics are a contract: what is released keeps its name, type and labels; alerts and dashboards rest on it."""

import re

from prometheus_client import Metric

from agents.metrics import Metrics

CONTRACT = {
    "penstock_records": ("counter", {"outcome"}),
    "penstock_chunks": ("counter", {"outcome"}),
    "penstock_chunks_embedded": ("counter", set()),
    "penstock_chunks_skipped": ("counter", {"reason"}),
    "penstock_tokens": ("counter", set()),
    "penstock_padding_tokens": ("counter", set()),
    "penstock_batch_tokens": ("histogram", set()),
    "penstock_session_seconds": ("counter", {"state"}),
    "penstock_batch_size": ("histogram", set()),
    "penstock_tokenize_seconds": ("histogram", set()),
    "penstock_embed_seconds": ("histogram", set()),
    "penstock_bulk_seconds": ("histogram", set()),
    "penstock_end_to_end_seconds": ("histogram", {"topic", "partition"}),
    "penstock_consumer_lag": ("gauge", {"topic", "partition"}),
    "penstock_oldest_unsettled_age_seconds": ("gauge", {"topic", "partition"}),
    "penstock_settled_offset": ("gauge", {"topic", "partition"}),
    "penstock_inflight_bytes": ("gauge", set()),
    "penstock_paused": ("gauge", set()),
    "penstock_breaker_state": ("gauge", {"target"}),
    "penstock_retries": ("counter", {"target", "reason"}),
    "penstock_dead_letters": ("counter", {"stage"}),
    "penstock_quality_flags": ("counter", {"flag"}),
    "penstock_held_back_records": ("gauge", {"topic", "partition"}),
    "penstock_records_lost": ("counter", {"topic", "partition"}),
    "penstock_rebalances": ("counter", set()),
    "penstock_model_info": ("gauge", {"name", "sha256", "provider", "precision"}),
    "penstock_model_shapes_refused": ("gauge", {"width"}),
    "penstock_canary_cosine": ("gauge", {"model"}),
    "penstock_model_changed": ("gauge", {"model"}),
    "penstock_embedding_drift": ("gauge", {"model", "statistic"}),
    "penstock_service_requests": ("counter", {"outcome"}),
    "penstock_service_tokens": ("counter", set()),
    "penstock_service_request_seconds": ("histogram", set()),
    "penstock_service_wait_seconds": ("gauge", set()),
    "penstock_cost": ("counter", {"model", "route"}),
    "penstock_model_tokens": ("counter", {"model"}),
    "penstock_document_cost": ("histogram", set()),
    "penstock_cost_forecast": ("gauge", set()),
    "penstock_budget_per_day": ("gauge", set()),
    "penstock_budget_used_ratio": ("gauge", set()),
    "penstock_budget_paused": ("gauge", set()),
    "penstock_budget_rerouted": ("counter", set()),
    "penstock_worker_info": ("gauge", {"group", "topic", "index"}),
    "penstock_event_loop_lag_seconds": ("gauge", set()),
}
"""Counters without their `_total`. Rows may be added; none may be changed or go."""


def families() -> list[Metric]:
    return list(Metrics().registry.collect())


def test_no_metric_is_renamed_or_relabelled() -> None:
    metrics = vars(Metrics()).values()
    labels = {metric._name: set(metric._labelnames) for metric in metrics if hasattr(metric, "_labelnames")}
    assert {family.name: (family.type, labels[family.name]) for family in families()} == CONTRACT


def test_every_metric_has_help_and_a_unit_where_it_measures_one() -> None:
    for family in families():
        assert re.fullmatch(r"[A-Z0-9].{10,}\.", family.documentation), family.name
        if "econds" in family.documentation and family.type != "counter":
            assert family.name.endswith("_seconds"), family.name


def test_what_is_unknown_is_absent() -> None:
    metrics = Metrics()
    metrics.lag.labels("t", "0").set(5)
    metrics.end_to_end_seconds.labels("t", "0").observe(1)
    metrics.forget("t", 0)
    metrics.forget("t", 1)
    assert not [
        sample for family in metrics.registry.collect() for sample in family.samples if "topic" in sample.labels
    ]
