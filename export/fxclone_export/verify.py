"""Clone files as streams for the battery."""

from __future__ import annotations

from collections.abc import Callable

from fxclone.clone import Clone


def fresh_streams(clone: Clone, *, max_block: int = 65_536) -> Callable[[], Clone]:
    """A callable that gives fresh streams of one loaded clone: the session is shared, the state is not."""

    def fresh() -> Clone:
        stream = Clone(clone.session, clone.meta, name=clone.file_name, ops=clone.ops)
        stream.prepare(clone.sample_rate, max_block, clone.channels_in)
        return stream

    return fresh
