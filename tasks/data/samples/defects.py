"""The exception for bytes that are not a usable sample."""


class DefectError(ValueError):
    """Bytes that are not a usable sample. `reason` is a code of the quarantine ledger."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
