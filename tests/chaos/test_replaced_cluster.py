"""Fault 42: the cluster is lost, and replaced by another one; a topic made anew on the same one is in `tests.stack`."""

from models.onnx.embedder import OnnxEmbedder
from tests.kit import shared
from tests.kit.harness import World
from tests.stack.test_logs import is_refused_until_its_epoch_begins

MODEL_SPEED = "fast"


def test_another_cluster_is_refused_until_its_epoch_begins(world: World, embedder: OnnxEmbedder) -> None:
    with shared.own("9.2.4") as other:
        is_refused_until_its_epoch_begins(world, embedder, other)
