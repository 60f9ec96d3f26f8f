"""Bytes that are held, from fetch to settlement: one bound for raw records and for what is made of them."""


class Budget:
    """Bytes held, by record. A record that is fetched twice is held once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._held: dict[tuple[int, int], int] = {}

    @property
    def full(self) -> bool:
        """Whether no more should be fetched."""
        return self.used >= self.limit

    def hold(self, partition: int, offset: int, size: int) -> None:
        """A record of this size is here now."""
        key = partition, offset
        self.used += size - self._held.get(key, 0)
        self._held[key] = size

    def grow(self, partition: int, offset: int, size: int) -> None:
        """More was made of it. Nothing for a record that is not held any more."""
        key = partition, offset
        if key in self._held:
            self._held[key] += size
            self.used += size

    def release(self, partition: int, offset: int) -> None:
        """It is settled, or was dropped."""
        self.used -= self._held.pop((partition, offset), 0)

    def holds(self, partition: int) -> bool:
        """Whether anything of this partition is here."""
        return any(number == partition for number, _ in self._held)

    def clear(self) -> None:
        """The partitions are gone."""
        self._held.clear()
        self.used = 0
