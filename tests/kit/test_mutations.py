"""The mutations of `tests.mutate` are kept up with the product: they take long, and are run by hand."""

import pytest

from tests.mutate import MUTATIONS, ROOT, Mutation, files_of


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_the_text_and_the_test_are_there(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.old) == 1
    assert files_of(mutation)
