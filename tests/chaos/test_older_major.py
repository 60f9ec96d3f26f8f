"""On Elasticsearch 8, what the quick suite shows on 9; the life of a document, readers and ports it has on both."""

import pytest

from tests.kit.harness import Servers
from tests.stack.test_document_vectors import (
    test_a_document_s_vector_is_true_through_its_life,
    test_damage_is_found_and_mended_from_the_topic_and_from_the_chunks,
)
from tests.stack.test_documents import test_in_a_changed_document_only_changed_chunks_are_embedded
from tests.stack.test_readers import test_elasticsearch_takes_whatever_validation_lets_through
from tests.stack.test_rules import test_in_memory_rules_are_those_of_elasticsearch

__all__ = [
    "test_a_document_s_vector_is_true_through_its_life",
    "test_damage_is_found_and_mended_from_the_topic_and_from_the_chunks",
    "test_elasticsearch_takes_whatever_validation_lets_through",
    "test_in_a_changed_document_only_changed_chunks_are_embedded",
    "test_in_memory_rules_are_those_of_elasticsearch",
]


@pytest.fixture
def servers(servers8: Servers) -> Servers:
    """The older major."""
    return servers8
