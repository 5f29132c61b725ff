"""One call's work as text: what travels in the input, and what must come back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """Work for so many seconds, in so many chunks, with so many bytes there and back."""

    number: int
    seconds: float
    chunks: int = 0
    padding: int = 0

    @property
    def input(self) -> str:
        """What is sent."""
        return f"{self.number} {self.seconds:.6f} {self.chunks} {self._filling()}"

    @property
    def output(self) -> str:
        """What must be answered: its own bytes, in their order."""
        return f"{self.number} done {self._filling()}"

    @classmethod
    def read(cls, input: str) -> Job:
        """The job of an input."""
        number, seconds, chunks, filling = input.split(" ", 3)
        return cls(int(number), float(seconds), int(chunks), len(filling))

    def _filling(self) -> str:
        """Different at every place and in every call, so that no piece can be taken for another."""
        piece = f"{self.number}:"
        counted = "".join(f"{piece}{place}," for place in range(self.padding // (len(piece) + 2) + 1))
        return counted[: self.padding]
