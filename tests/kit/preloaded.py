"""What a process under test imports: done once, in the process that the others are forked from.

It opens nothing: sessions of the model, event loops and connections are made after the fork.
"""

import gc
import importlib
import pkgutil

import onnxruntime  # noqa: F401
import tokenizers  # noqa: F401

import agents

for module in pkgutil.walk_packages(agents.__path__, "agents."):
    importlib.import_module(module.name)

gc.collect()
gc.freeze()  # nobody collects it again, and no page of it is copied for that
