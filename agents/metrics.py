"""Prometheus metrics. Names are never changed once released; units are in the names."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.flags import FLAGS

LABELS = {
    "records": ("stored", "superseded", "unchanged", "dead_lettered"),
    "chunks": ("indexed", "superseded", "stub", "rejected"),
    "skipped": ("unchanged", "superseded", "reused"),
    "session_seconds": ("busy", "idle"),
    "dead_letters": ("decode", "split", "quality", "registry", "embed", "index"),
    "quality_flags": FLAGS,
    "service_requests": ("answered", "refused", "limited", "wrong", "failed"),
}
"""Counters with one label, and all its values: they are there, as 0, from the start."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


class Metrics:
    """All metrics of one worker, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self.records = Counter("penstock_records_total", "Records settled, by outcome.", ["outcome"], registry=r)
        self.chunks = Counter("penstock_chunks_total", "Chunk writes answered, by outcome.", ["outcome"], registry=r)
        self.embedded = Counter("penstock_chunks_embedded_total", "Chunks run through the model.", registry=r)
        # unchanged: whole documents; reused: chunks of changed documents
        self.skipped = Counter(
            "penstock_chunks_skipped_total",
            "Chunks that needed no embedding, by reason.",
            ["reason"],
            registry=r,
        )
        self.tokens = Counter("penstock_tokens_total", "Tokens run through the model, without padding.", registry=r)
        self.padding_tokens = Counter(
            "penstock_padding_tokens_total",
            "Tokens that the model computed for nothing, because texts of unequal length run together.",
            registry=r,
        )
        self.batch_tokens = Histogram(
            "penstock_batch_tokens",
            "Tokens a run of the model, padding included.",
            registry=r,
            buckets=(64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536),
        )
        # busy: in runs; idle: a lane between two of its runs
        self.session_seconds = Counter(
            "penstock_session_seconds_total",
            "Seconds of the model's lanes, by what they did: idle / (idle + busy) is the share that was not used.",
            ["state"],
            registry=r,
        )
        self.batch_size = Histogram(
            "penstock_batch_size",
            "Chunks a micro-batch.",
            registry=r,
            buckets=(1, 8, 32, 64, 128, 256, 512, 1024, 4096),
        )
        self.tokenize_seconds = Histogram(
            "penstock_tokenize_seconds",
            "Splitting and counting of one window, seconds.",
            registry=r,
            buckets=_SECONDS,
        )
        self.embed_seconds = Histogram(
            "penstock_embed_seconds",
            "Embedding of one micro-batch, seconds.",
            registry=r,
            buckets=_LONG_SECONDS,
        )
        self.bulk_seconds = Histogram(
            "penstock_bulk_seconds",
            "One bulk request with its retries, seconds.",
            registry=r,
            buckets=_SECONDS,
        )
        self.end_to_end_seconds = Histogram(
            "penstock_end_to_end_seconds",
            "From the record's timestamp to its settlement, seconds; a search finds it at the index's next refresh.",
            ["topic", "partition"],
            registry=r,
            buckets=_LONG_SECONDS,
        )
        self.lag = Gauge(
            "penstock_consumer_lag",
            "End offset minus settled; absent when unknown.",
            ["topic", "partition"],
            registry=r,
        )
        self.oldest_age = Gauge(
            "penstock_oldest_unsettled_age_seconds",
            "Age of the oldest record that is not settled, by its timestamp; 0 without lag, absent when unknown.",
            ["topic", "partition"],
            registry=r,
        )
        self.settled_offset = Gauge(
            "penstock_settled_offset",
            "Every record below this offset is settled.",
            ["topic", "partition"],
            registry=r,
        )
        self.held_back = Gauge(
            "penstock_held_back_records",
            "Offsets behind an open transaction, in no lag and read by nobody before it ends; absent when unknown.",
            ["topic", "partition"],
            registry=r,
        )
        self.inflight_bytes = Gauge(
            "penstock_inflight_bytes",
            "Bytes of records from fetch to settlement, and of what is made of them.",
            registry=r,
        )
        self.paused = Gauge("penstock_paused", "1 while fetching is paused: over budget, or breaker open.", registry=r)
        # breaker_state: target elasticsearch, schema_registry or service; 0 closed, 1 half open, 2 open
        self.breaker_state = Gauge(
            "penstock_breaker_state", "0 closed, 1 half open, 2 open, by target.", ["target"], registry=r
        )
        # retries: target elasticsearch or service, reason the HTTP status or the exception
        self.retries = Counter(
            "penstock_retries_total", "Retries, by target and reason.", ["target", "reason"], registry=r
        )
        self.dead_letters = Counter("penstock_dead_letters_total", "Dead letters, by stage.", ["stage"], registry=r)
        self.quality_flags = Counter(
            "penstock_quality_flags_total", "Chunks written whose text has a flag, by flag.", ["flag"], registry=r
        )
        self.records_lost = Counter(
            "penstock_records_lost_total",
            "Offsets that retention took before they were read.",
            ["topic", "partition"],
            registry=r,
        )
        self.rebalances = Counter("penstock_rebalances_total", "Assignments received.", registry=r)
        self.model_info = Gauge(
            "penstock_model_info",
            "1, with the model in use.",
            ["name", "sha256", "provider", "precision"],
            registry=r,
        )
        # canary_cosine, model_changed: a worker that ends for them goes on showing them for some seconds first
        self.canary_cosine = Gauge(
            "penstock_canary_cosine",
            "Least cosine of the texts that the model was last proved by to the vectors that they must have.",
            ["model"],
            registry=r,
        )
        self.model_changed = Gauge(
            "penstock_model_changed",
            "1 once the model gave other vectors than it should: nothing is written any more, and the worker ends.",
            ["model"],
            registry=r,
        )
        # statistic: centroid, spread, neighbours, identical; absent until there is a baseline and enough to compare
        self.embedding_drift = Gauge(
            "penstock_embedding_drift",
            "How the vectors of late differ from the index's baseline, by statistic.",
            ["model", "statistic"],
            registry=r,
        )
        # width: tokens of the widest run of a class; absent when every width is right
        self.shapes_refused = Gauge(
            "penstock_model_shapes_refused",
            "1 for each width of runs that this machine computes wrongly; texts of that width are padded past it.",
            ["width"],
            registry=r,
        )
        # limited: 429, or 402; wrong: 200 with something that cannot be used; failed: 5xx, or no answer
        self.service_requests = Counter(
            "penstock_service_requests_total",
            "Requests to the embedding service, by outcome.",
            ["outcome"],
            registry=r,
        )
        self.service_tokens = Counter(
            "penstock_service_tokens_total",
            "Tokens that the embedding service counted in what it answered.",
            registry=r,
        )
        self.service_seconds = Histogram(
            "penstock_service_request_seconds",
            "One request to the embedding service, seconds.",
            registry=r,
            buckets=_SECONDS,
        )
        self.service_wait = Gauge(
            "penstock_service_wait_seconds",
            "How long the embedding service asked to wait for its quota, seconds; 0 when it answers.",
            registry=r,
        )
        # cost, model_tokens, document_cost: absent without [cost]; in the currency of cost.currency, whatever that is
        self.cost = Counter(
            "penstock_cost_total",
            "What embedding cost, in units of the currency, by model and route.",
            ["model", "route"],
            registry=r,
        )
        self.model_tokens = Counter(
            "penstock_model_tokens_total",
            "Tokens that are paid for, as the model or its service counts them, by model.",
            ["model"],
            registry=r,
        )
        self.document_cost = Histogram(
            "penstock_document_cost",
            "What it cost to embed a document, or what changed of it, in units of the currency.",
            registry=r,
            buckets=[float(f"{step}e{power}") for power in range(-8, 1) for step in (1, 3)],
        )
        # of the whole fleet, on the present UTC day, as each worker last saw it; 0 without a budget
        self.cost_forecast = Gauge(
            "penstock_cost_forecast",
            "What the fleet's day will have cost at its end, going on as in the last hour, in units of the currency.",
            registry=r,
        )
        self.budget_per_day = Gauge(
            "penstock_budget_per_day", "What the fleet may spend a day, in units of the currency.", registry=r
        )
        self.budget_used = Gauge(
            "penstock_budget_used_ratio", "Part of the day's budget that the fleet has spent.", registry=r
        )
        self.budget_paused = Gauge(
            "penstock_budget_paused", "1 while the worker waits for the next day's budget.", registry=r
        )
        self.budget_rerouted = Counter(
            "penstock_budget_rerouted_total",
            "Documents that went by the route of budget.then, because the day's budget was used up.",
            registry=r,
        )
        self.worker_info = Gauge(
            "penstock_worker_info",
            "1, with what the worker works for: joined to other metrics, it tells the groups apart.",
            ["group", "topic", "index"],
            registry=r,
        )
        self.event_loop_lag = Gauge(
            "penstock_event_loop_lag_seconds",
            "How late the last timer of the event loop fired, seconds.",
            registry=r,
        )
        for metric, values in LABELS.items():  # a counter that appears with its first event hides it from `increase`
            for value in values:
                getattr(self, metric).labels(value)

    def forget(self, topic: str, partition: int) -> None:
        """Drop the series of a partition that is not ours any more: an absent value is better than an old one."""
        for metric in (self.lag, self.held_back, self.settled_offset, self.oldest_age, self.end_to_end_seconds):
            metric.remove(topic, str(partition))
