"""Run in an environment with wordllama and onnx: the graph, the tokenizer, and the package's own vectors of some texts.

usage: wordllama_script.py FOLDER TEXTS.json
"""

import json
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from wordllama.inference import WordLlamaInference

folder, texts = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
(table,) = load_file(str(files("wordllama") / "weights" / "l2_supercat_256.safetensors")).values()
table = np.ascontiguousarray(table.astype(np.float32))
tokenizer = Tokenizer.from_file(str(files("wordllama") / "tokenizers" / "l2_supercat_tokenizer_config.json"))
own = WordLlamaInference(table, Tokenizer.from_str(tokenizer.to_str()))

tokenizer.no_padding()
tokenizer.no_truncation()
stored = json.loads(tokenizer.to_str())
stored["post_processor"] = None  # it would put a <s> before each text, which the package leaves out
(folder / "tokenizer.json").write_text(json.dumps(stored, ensure_ascii=False))

ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["texts", "tokens"])
mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["texts", "tokens"])
out = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["texts", table.shape[1]])
graph = helper.make_graph(
    [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["inside"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["inside", "one"], ["weights"]),  # (texts, 1, tokens)
        helper.make_node("MatMul", ["weights", "vectors"], ["rows"]),
        helper.make_node("Squeeze", ["rows", "one"], ["sums"]),
        helper.make_node("ReduceSum", ["inside", "one"], ["counts"], keepdims=1),
        helper.make_node("Max", ["counts", "least"], ["divisors"]),
        helper.make_node("Div", ["sums", "divisors"], ["means"]),
        helper.make_node("LpNormalization", ["means"], ["sentence_embedding"], axis=1, p=2),
    ],
    "wordllama",
    [ids, mask],
    [out],
    [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
        numpy_helper.from_array(np.array([1], dtype=np.float32), "least"),
    ],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model)
onnx.save(model, str(folder / "model.onnx"))

vectors = own.embed(list(texts), norm=True)
golden = {"texts": texts, "vectors": vectors.tolist(), "by": "wordllama"}
(folder / "golden.json").write_text(json.dumps(golden))
