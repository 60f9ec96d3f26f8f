"""Makes `pooling.onnx`: hidden states and their mask in, one vector a text out. Runs in the export environment.

Usage: python pooling_script.py OUT.onnx

    hidden float32 (texts, tokens, dims), mask int64 (texts, tokens) ─► mean, cls: float32 (texts, dims)

A session on a GPU runs it after the model, so that hidden states never leave the device. A text whose mask is empty
gives zeros.
"""

import sys

import onnx
from onnx import TensorProto, helper


def main(out: str) -> None:
    nodes = [
        helper.make_node("Cast", ["mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "axis_1"], ["row"]),
        helper.make_node("MatMul", ["row", "hidden"], ["sums"]),
        helper.make_node("Squeeze", ["sums", "axis_1"], ["sum"]),
        helper.make_node("ReduceSum", ["weights", "axis_1"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["least_one"]),
        helper.make_node("Div", ["sum", "least_one"], ["mean"]),
        helper.make_node("Gather", ["hidden", "first"], ["cls"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "pooling",
        [
            helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["texts", "tokens", "dims"]),
            helper.make_tensor_value_info("mask", TensorProto.INT64, ["texts", "tokens"]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["texts", "dims"]) for name in ("mean", "cls")],
        [
            helper.make_tensor("axis_1", TensorProto.INT64, [1], [1]),
            helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
            helper.make_tensor("first", TensorProto.INT64, [], [0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
