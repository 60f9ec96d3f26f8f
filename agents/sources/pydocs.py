"""The Python standard library's own documentation, from the running interpreter: real text, everywhere."""

import importlib
import itertools
import os
import pydoc
import re
import sys
import warnings
from collections.abc import Iterator
from unittest.mock import patch

import orjson

from agents.sources import Outgoing

LEFT_OUT = {"antigravity", "this", "idlelib", "lib2to3", "test", "tkinter", "turtle", "turtledemo"}
"""Modules that open windows, or print, or document toys when they are imported."""
_DATA = re.compile(r"^DATA\n(?:(?: .*)?\n)*", re.MULTILINE)  # values of this machine: its environment, for one
_REFERENCE = re.compile(r"^MODULE REFERENCE\n(?:(?: .*)?\n)*", re.MULTILINE)  # the same words in every module
_ADDRESS = re.compile(r" at 0x[0-9a-f.]+")
_BAR = re.compile(r"^(?: *\|)+ ?", re.MULTILINE)  # drawn beside the members of a class, as are the rules
_RULE = re.compile(r"^ *-{10,} *\n", re.MULTILINE)
_INHERITED = re.compile(  # the same members again and again, once for each subclass
    r"^ *[A-Z][a-z ]+ inherited from .*?(?=^ *[A-Z][a-z ]+:$|^ *class |^[A-Z]+$|\Z)", re.MULTILINE | re.DOTALL
)


def module_names() -> list[str]:
    """Public modules of the standard library that may be imported here."""
    return sorted(name for name in sys.stdlib_module_names if not name.startswith("_") and name not in LEFT_OUT)


def read_modules() -> Iterator[Outgoing]:
    """One document a module; modules of other systems are passed over."""
    for name in module_names():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = importlib.import_module(name)
                # a default of some parameters, which is shown with its values
                with patch.object(type(os.environ), "__repr__", lambda _: "os.environ"):
                    text = pydoc.render_doc(module, renderer=pydoc.plaintext)  # type: ignore[attr-defined]  # documented, missing in typeshed
        except ImportError:
            continue
        summary = (pydoc.getdoc(module) or name).strip().splitlines()[0]
        body = {
            "text": _clean(text),
            "title": f"{name}: {summary}"[:200],
            "url": f"https://docs.python.org/3/library/{name}.html",
            "author": "Python Software Foundation",
            "metadata": {"python": ".".join(map(str, sys.version_info[:3]))},
        }
        yield Outgoing(key=name.encode(), value=orjson.dumps(body), origin=f"module {name}")


def real_texts(count: int = 600, size: int = 800) -> list[str]:
    """Pieces of the documentation, of up to so many characters, from all modules in turn."""
    texts = [orjson.loads(document.value or b"")["text"] for document in read_modules()]
    rows = [[text[start : start + size] for start in range(0, len(text), size)] for text in texts]
    mixed = (piece for turn in itertools.zip_longest(*rows) for piece in turn if piece and piece.strip())
    return list(itertools.islice(mixed, count))


def _clean(text: str) -> str:
    """Documentation only: no drawn lines, no inherited members, nothing that depends on this machine."""
    for pattern in (_DATA, _REFERENCE, _ADDRESS, _BAR, _RULE, _INHERITED):
        text = pattern.sub("", text)
    return text
