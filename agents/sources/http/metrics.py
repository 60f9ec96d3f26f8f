"""Metrics of the HTTP source. Names are never changed once released."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OUTCOMES = ("published", "deleted", "invalid", "refused", "failed")
"""Of documents: acknowledged; no document; not allowed, or too many; not acknowledged."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """In a registry of their own."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self.objects = Counter(
            "penstock_source_objects_total",
            "Documents that were sent, by source (http, or http/TOKEN) and outcome.",
            ["source", "outcome"],
            registry=r,
        )
        self.seconds = Histogram(
            "penstock_http_request_seconds",
            "From a request's headers to the end of its answer, seconds.",
            ["method", "route", "status"],
            registry=r,
            buckets=_SECONDS,
        )
        self.in_flight = Gauge("penstock_http_requests_in_flight", "Requests that are not answered yet.", registry=r)
        self.held_bytes = Gauge(
            "penstock_http_held_bytes", "Bytes of documents that are not acknowledged yet.", registry=r
        )

    def begin(self, source: str) -> None:
        """All outcomes of a source, as 0: a counter that appears with its first event hides it from `increase`."""
        for outcome in OUTCOMES:
            self.objects.labels(source, outcome)

    def count(self, source: str, outcome: str) -> None:
        """One document more."""
        self.objects.labels(source, outcome).inc()
