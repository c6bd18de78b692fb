"""How the rows of an image or a cloud lie in a message's data."""

from __future__ import annotations


def row_bytes(stated: int, needed: int, rows: int, data_bytes: int) -> int | None:
    """Return the bytes from one row to the next; None where the rows are not all in the data.

    Some drivers state 0, or the size of all rows together. If the data has exactly the size of `rows` rows without
    padding, the rows are taken to have none.

    Args:
        stated: `step` or `row_step` of the message.
        needed: bytes of one row without padding.
        data_bytes: size of the message's data.
    """
    if stated in (0, rows * needed) and data_bytes == rows * needed:
        return needed
    return stated if stated >= needed and data_bytes >= rows * stated else None
