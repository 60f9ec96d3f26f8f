"""The topic that documents are published to."""

from agents.kafka.reader import LogReader
from agents.settings import Settings
from streams.contract import Described


async def source_topic(reader: LogReader, settings: Settings, partitions: int | None) -> Described | None:
    """As it is now; made with so many partitions where it is missing, None where there is none and none is made."""
    topic = settings.source.topic
    found = await reader.describe(topic)
    if found is None and partitions is not None:
        await reader.create_topic(topic, partitions, {})
        found = await reader.require_topic(topic)
    return found


async def largest_record(reader: LogReader, settings: Settings) -> int:
    """Bytes of a record that it takes, at most (`max.message.bytes`); 0 where this login may not see that."""
    return int((await reader.configs(settings.source.topic)).get("max.message.bytes", 0))
