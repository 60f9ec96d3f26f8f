"""The poison flood at full size."""

from typing import Any

import pytest

from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import World
from tests.stack.test_dlq import flood


@pytest.mark.timeout(600)
def test_200_poison_records_among_5000_then_a_fixed_parser(
    world: World, embedder: OnnxEmbedder, summary: dict[str, Any]
) -> None:
    flood(world, embedder, documents=4700)
    summary["poison flood: records, poison, open at the end"] = "5,000, 200, 0"  # asserted above
