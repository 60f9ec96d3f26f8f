"""Files as people have them, of all kinds, damaged, sloppy, and large; and files of vectors. In Beam's environment."""

import gzip
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.kit.beam import BINARY, require_beam

ROOT = Path(__file__).parents[3]
LARGE = 17 * 1024**2
LINES = b'{"id":"f","text":"x"}\n' * 3000
FILES = {
    "plain.jsonl": b'{"id":"a","text":"x"}\n\n[1]\n{"id":true}\n{"id":5,"text":"y"}',
    "bom.jsonl": b'\xef\xbb\xbf{"id":"b","text":"x"}\r\n',
    "large.jsonl": b'{"id":"d","text":"' + b"x" * LARGE + b'"}\n{"id":"e","text":"after"}\n',
    "packed.jsonl.gz": gzip.compress(LINES),
    "cut.jsonl.gz": gzip.compress(LINES)[:-20],
    "not.csv.gz": b"id,text\n1,x\n",
    "quoted.csv": b'\xef\xbb\xbfid,text\n1,"two\nlines"\n2,"a ""b"""\n3\n4,a,b\n',
    "semicolons.csv": b"id;text\n1;x\n",
    "latin.csv": "id,text\n1,gr\xfcn\n2,green\n".encode("latin-1"),
    "open.csv": b'id,text\n1,"never closed\n2,x\n',
    "twice.csv": b"id,id\n1,2\n",
    "large.csv": b'id,text\n1,"' + b"y" * LARGE + b'"\n2,z\n',
    "tabs.tsv": b"id\ttext\n7\thello\n",
    "empty.csv": b"",
    "empty.jsonl": b"",
    "no.parquet": b"PAR1 none",
    "of [x]/\xfc/in a folder.jsonl": b'{"id":"g","text":"x"}\n',
    "list.json": b'[{"id":"h","text":"x"}]',
    "_SUCCESS": b"",
    "picture.png": b"\x89PNG",
}


def run(script: str, *arguments: str) -> dict[str, Any]:
    require_beam()
    command = [str(BINARY.with_name("python")), "-m", f"tests.kit.{script}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return dict(json.loads(done.stdout))


def test_rows_are_read_as_they_are_and_what_is_damaged_harms_no_other(tmp_path: Path) -> None:
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    found = run("rows_script", str(tmp_path), "write")
    parquet = {f"{name}.parquet" for name in ("types", "map", "bytes", "none", "rotten", "odd", "far")}
    assert found.keys() == {*FILES, *parquet} - {"_SUCCESS", "picture.png"}
    no_id = "an `id` is needed, a text that is not empty or a whole number: it names the document"
    assert found["plain.jsonl"] == [
        ["@0", "a", {"id": "a", "text": "x"}],
        ["@23", None, no_id],
        ["@27", None, no_id],
        ["@39", "5", {"id": "5", "text": "y"}],
        4,
    ]
    assert found["bom.jsonl"] == [["@0", "b", {"id": "b", "text": "x"}], 1]
    assert found["large.jsonl"][0] == ["@0", None, "longer than 16777216 bytes: divide it"]
    assert found["large.jsonl"][1:] == [[f"@{LARGE + 21}", "e", {"id": "e", "text": "after"}], 2]
    assert found["packed.jsonl.gz"][-1] == 3000
    assert 1 < found["cut.jsonl.gz"][-1] <= 3001
    assert "Not a gzipped file" in found["not.csv.gz"][0][2]
    assert found["quoted.csv"] == [
        [":2", "1", {"id": "1", "text": "two\nlines"}],
        [":4", "2", {"id": "2", "text": 'a "b"'}],
        [":5", "3", {"id": "3"}],
        [":6", None, "it has more values than the first line has names"],
        4,
    ]
    assert found["semicolons.csv"] == [[":2", "1", {"id": "1", "text": "x"}], 1]
    assert ["not UTF-8" in found["latin.csv"][0][2], found["latin.csv"][1][1]] == [True, "2"]
    assert found["open.csv"] == [[":2", None, "no CSV: unexpected end of data"], 1]
    assert found["twice.csv"] == [["", None, "cannot be read from here on: its first line has the name 'id' twice"], 1]
    assert [found["large.csv"][0][1], found["large.csv"][1][1]] == [None, "2"]
    assert found["tabs.tsv"] == [[":2", "7", {"id": "7", "text": "hello"}], 1]
    assert (found["empty.csv"], found["empty.jsonl"], found["none.parquet"]) == ([0], [0], [0])
    assert "magic bytes" in found["no.parquet"][0][2]
    assert found["of [x]/\xfc/in a folder.jsonl"][0][1] == "g"
    assert found["list.json"][0][1] == "h"
    types, missing, _ = found["types.parquet"]
    metadata = {"x": 1, "price": "1.5", "tags": [1, 2], "day": "2024-01-02"}
    assert types == ["#0", "1", {"id": "1", "text": "a", "timestamp": "2024-01-01T00:00:00", "metadata": metadata}]
    assert missing == ["#1", None, no_id]
    assert found["map.parquet"][0][2]["metadata"] == {"k": "v"}
    assert "bytes" in found["bytes.parquet"][0][2]
    assert (found["rotten.parquet"][0][1], found["rotten.parquet"][1][:2]) == (None, ["#1000", "r1000"])
    assert found["rotten.parquet"][-1] == 2001
    odd = found["odd.parquet"]
    assert [row[1] for row in odd[:3]] == ["1", "2", None]
    assert [odd[0][2]["text"], odd[1][2]["text"], odd[0][2]["timestamp"]] == ["text", "täxt", "2024-01-01T00:00:00"]
    assert ["cannot be read" in found["far.parquet"][0][2], found["far.parquet"][1][1]] == [True, "g"]


def test_vectors_are_written_whole_and_read_back_in_every_format(tmp_path: Path) -> None:
    found = run("vectors_script", str(tmp_path))
    assert [found[form] for form in ("parquet", "jsonl", "tfrecord")] == [[False, True]] * 3, "seen when it is whole"
    assert found["beam reads them"] is True
    assert found["contract"] == {"model": {"name": "m"}}
    assert "damaged" in found["cut"]
    assert found["grid"] == [[0, 500, 2000], [0, 2000, 4000], [0, 4000, 6000], [0, 6000, 6100]]
    assert found["left"] == [4000]
    assert found["a hole"] == [[[700, 2000, "f500"], [2000, 4000, "f2000"]], 4000]
    whole = [[700, 2000, "f500"], [2000, 4000, "f2000"], [4000, 5000, "short"], [5000, 6000, "f4000"]]
    assert found["whole"] == [[*whole, [6000, 6050, "f6000"]], 6050]
