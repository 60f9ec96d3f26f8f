"""fastembed alone, texts in memory: no broker, no index. The same weights, cut off at the same length.

Runs in the peers' environment. One argument: a JSON file with what to do; writes times and vectors into `result`.
"""

import json
import sys
import time
from pathlib import Path

from fastembed import TextEmbedding

job = json.loads(Path(sys.argv[1]).read_text())
model = TextEmbedding("sentence-transformers/all-MiniLM-L6-v2", specific_model_path=job["folder"])
list(model.embed(["warm up"]))
texts = json.loads(Path(job["texts"]).read_text())
begun = time.time()
vectors = [vector.tolist() for vector in model.embed(texts)]
ended = time.time()
Path(job["result"]).write_text(json.dumps({"begun": begun, "ended": ended, "vectors": vectors}))
