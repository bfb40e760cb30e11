"""What params.yaml sets for the reading of raw samples."""

from dataclasses import dataclass

from tasks.machine.bounds import Count, Positive


@dataclass(frozen=True, kw_only=True)
class ReadingLimits:
    """The most that one sample may cost: the bytes of its file, and the processor time of its decoder."""

    max_file_bytes: Count
    max_decode_seconds: Positive
