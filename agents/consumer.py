"""Faust's consumer, with what Faust has no setting for: committed records only, and a budget of bytes."""

from typing import Any

from faust.transport.drivers import aiokafka as driver


class _Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # faust is untyped here
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # Faust sets it for its own transactions only
        return consumer


class Consumer(driver.Consumer):  # type: ignore[misc]
    """What an aborted transaction published is never seen; every record is counted as it comes."""

    def track_message(self, message: Any) -> None:
        """Called for each record that was fetched, before it is delivered."""
        super().track_message(message)
        self.app.flow.fetched(self, message)

    def _new_consumer_thread(self) -> Any:
        return _Thread(self, loop=self.loop, beacon=self.beacon)
