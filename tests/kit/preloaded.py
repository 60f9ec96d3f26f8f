"""What a process under test imports: done once, in the process that the others are forked from.

It opens nothing but tokenizers: sessions of the model, event loops and connections are made after the fork.
"""

import gc
import importlib
import inspect
import pkgutil

import onnxruntime  # noqa: F401
import tokenizers  # noqa: F401

import agents

LATER = ("assignor.leader_assignor", "assignor.partition_assignor", "fixups.django", "stores.memory", "tables.recovery")
"""Of Faust's modules, those that it imports when an application asks for them."""

BEAM = tuple(f"agents.beam.{name}" for name in ("examples", "options", "pipeline", "rows", "stores", "vectors"))
"""What has an environment of its own."""

for name in LATER:
    importlib.import_module(f"faust.{name}")
importlib.import_module("tests.kit.memo").preload()
for module in pkgutil.walk_packages(agents.__path__, "agents."):
    if module.name not in BEAM:
        importlib.import_module(module.name)

inspect.getmodule(inspect.currentframe())  # walks all modules, once: Faust asks for it at each start
gc.collect()
gc.freeze()  # nobody collects it again, and no page of it is copied for that
