"""The shell around the core: Faust, Elasticsearch, settings, lifecycle, metrics, command line.

`agents.app` is the Faust application, made when it is first asked for (`faust -A agents worker -l info`);
importing this package does nothing.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "app":
        from agents.main import end_at_signals, with_few_threads

        end_at_signals()
        with_few_threads()
        from agents.worker.app import app_for_faust

        return app_for_faust()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
