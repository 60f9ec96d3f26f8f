"""Runs in the export environment (torch, optimum, sentence-transformers), never in the worker's.

Usage: python export_script.py SOURCE OUT TEXTS.json

Writes OUT/model.onnx (plain: each runtime fuses it in its own way when it loads it; last hidden state as output),
OUT/tokenizer.json when the source has none, and OUT/reference.json: vectors of TEXTS by sentence-transformers itself,
which the exported model is compared with, now and at every load.
"""

import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory


def main(source: str, out: str, texts_file: str) -> None:
    from optimum.exporters.onnx import main_export
    from sentence_transformers import SentenceTransformer

    target = Path(out)
    with TemporaryDirectory() as scratch:
        plain = Path(scratch)
        main_export(source, output=plain, task="feature-extraction", library_name="transformers", do_validation=False)
        for file in plain.glob("model.onnx*"):
            shutil.move(file, target / file.name)
        if not (target / "tokenizer.json").exists():
            shutil.copy(plain / "tokenizer.json", target / "tokenizer.json")
    reference = SentenceTransformer(source, device="cpu")
    vectors = reference.encode(json.loads(Path(texts_file).read_text()), batch_size=8, normalize_embeddings=False)
    (target / "reference.json").write_text(
        json.dumps(
            {
                "by": f"sentence-transformers {version('sentence-transformers')}",
                "exporter": {name: version(name) for name in ("optimum-onnx", "transformers", "torch")},
                "vectors": [[float(x) for x in vector] for vector in vectors],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
