"""sentence-transformers alone, texts in memory: fp16 and scaled dot product attention, at the best of some batch sizes.

Runs in the peers' environment. One argument: a JSON file with what to do; writes times and vectors into `result`.
"""

import json
import sys
import time
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

job = json.loads(Path(sys.argv[1]).read_text())
options = {"torch_dtype": torch.float16, "attn_implementation": "sdpa"} if job["device"] == "cuda" else {}
model = SentenceTransformer(job["model"], device=job["device"], model_kwargs=options)
texts = json.loads(Path(job["texts"]).read_text())
model.encode(texts[:256])
found = {"ended": float("inf"), "begun": 0.0}
for size in job["batch_sizes"]:
    begun = time.time()
    vectors = model.encode(texts, batch_size=size)
    ended = time.time()
    if ended - begun < found["ended"] - found["begun"]:
        found = {"begun": begun, "ended": ended, "batch_size": size, "vectors": vectors.astype("float32").tolist()}
Path(job["result"]).write_text(json.dumps(found))
