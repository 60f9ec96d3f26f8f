"""Runs in the export environment: an fp32 graph becomes an fp16 or int8 one.

Usage: python quantize_script.py MODEL.onnx OUT.onnx fp16|int8-calibrated|int8-dynamic IDS.json

int8 leaves the down projections (the layers whose input is wider than their output) in fp32: their inputs have
outliers, and with them the nearest neighbours of a text are other ones too often (measured: ADR 11).

int8-calibrated: activations too are quantised beforehand, with outliers moved into the weights (SmoothQuant) and ranges
from IDS (token ids of real texts); what OpenVINO runs fast. int8-dynamic: per-channel weights, activations
quantised while running; what ONNX Runtime's own CPU provider runs fast.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx


def main(source: str, out: str, kind: str, ids_file: str) -> None:
    model = onnx.load(source)
    if kind == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(model, keep_io_types=True), out)
        return
    down = down_projections(model)
    if kind == "int8-dynamic":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            source,
            out,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=down,
            extra_options={"MatMulConstBOnly": True},
        )
        return
    import nncf

    inputs = {node.name for node in model.graph.input}
    texts = json.loads(Path(ids_file).read_text())

    def feed(ids: list[int]) -> dict[str, np.ndarray]:
        row = np.array([ids], np.int64)
        feeds = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        return {name: array for name, array in feeds.items() if name in inputs}

    quantized = nncf.quantize(
        model,
        nncf.Dataset(texts, feed),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(texts),
        ignored_scope=nncf.IgnoredScope(names=down),
    )
    onnx.save(quantized, out)


def down_projections(model: onnx.ModelProto) -> list[str]:
    """Names of the MatMul nodes whose constant weight has more rows than columns."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and len(shape := shapes.get(node.input[1], ())) == 2 and shape[0] > shape[1]
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
