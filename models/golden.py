"""Texts whose vectors are stored with a model and compared with it later: short, long, and outside English."""

GOLDEN_TEXTS = (
    "Hello, world.",
    "offset",
    "Kafka keeps records in an append-only log; a consumer remembers how far it has read.",
    "How do I run code at the same time in several processes?",
    "def main() -> None:\n    print('indentation, quotes and (brackets)')",
    "Ein Wehr staut das Wasser, ein Druckrohr führt es zur Turbine.",
    "Le penstock est la conduite forcée qui amène l'eau à la turbine.",
    "日本語の文章も、切り捨てずに扱われます。",
    "Эмбеддинги хранятся в Elasticsearch.",
    "🙂🚀 emoji and symbols: ∑ ≥ √ § €",
    "https://example.org/a/very/long/path?with=query&and=more#fragment",
    "1234567890 3.14159 0xDEADBEEF 2026-11-21T12:00:00Z",
    "a",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "Exactly-once is a property of the state that a reader can see, not of the messages that were sent. " * 8,
    "SELECT id, title FROM documents WHERE updated_at > now() - interval '1 day' ORDER BY id;",
)
