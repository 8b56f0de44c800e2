"""A matrix quantised in blocks, as GGUF files hold it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix `[out, in]` of a quantised kind.

    Attributes:
        kind: as GGUF calls it, such as `Q4_1`.
        columns: in.
        rows: the blocks as they lie in a file, uint8, shape `[out, bytes of a row]`.
    """

    kind: str
    columns: int
    rows: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix."""
        return len(self.rows), self.columns
