"""A real broker and a real Elasticsearch as local processes: no Docker, no JDK."""

DEFAULT_KAFKA_PORT = 9092
DEFAULT_ELASTICSEARCH_PORT = 9200
KAFKA_VERSION = "4.1.1"
ELASTICSEARCH_VERSION = "9.2.4"
ELASTICSEARCH_VERSIONS = ("9.2.4", "8.19.3")
