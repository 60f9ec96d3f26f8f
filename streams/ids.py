"""Names and versions that are functions of a record's position, so that every replay writes the same ones."""

import hashlib

EPOCH_SHIFT = 48
MAX_OFFSET = (1 << EPOCH_SHIFT) - 2
HASHED = "sha256:"
MAX_ID_BYTES = 480  # Elasticsearch's limit is 512; what is left is for the chunk number


def version(epoch: int, offset: int) -> int:
    """External version of everything that the record at `offset` writes: `(epoch << 48) | (offset + 1)`.

    Raises ValueError for an offset that does not fit; Elasticsearch versions are signed 64-bit.
    """
    if not 0 <= offset <= MAX_OFFSET or not 0 <= epoch < (1 << 15):
        raise ValueError(f"epoch {epoch} or offset {offset} does not fit a version")
    return (epoch << EPOCH_SHIFT) | (offset + 1)


def entry_id(doc_id: str) -> str:
    """`_id` of a document's registry entry: the document id, or its hash.

    Hashed are ids over 480 bytes of UTF-8, and those that look like a hash: no two documents have one `_id`.
    """
    raw = doc_id.encode()
    if len(raw) <= MAX_ID_BYTES and not doc_id.startswith(HASHED):
        return doc_id
    return HASHED + hashlib.sha256(raw).hexdigest()


def chunk_id(doc_id: str, chunk: int) -> str:
    """`_id` of chunk number `chunk` (from 0): `<entry id>#<chunk>`. The last `#` divides them."""
    return f"{entry_id(doc_id)}#{chunk}"
