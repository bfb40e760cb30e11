"""What another program printed in; the same without a password, token or signature in it out, fit for logs and for Prefect's database."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from flows.dvc_settings import dvc_settings

HIDDEN = "***"
SHORTEST = 6  # characters; a shorter value may be any word

SECRET_VARIABLE = re.compile(
    r"SECRET|TOKEN|PASSW|PASSPHRASE|WEBHOOK|API_KEY|ACCOUNT_KEY|PRIVATE_KEY|SIGNATURE|CONNECTION_(STRING|URL)|(^|_)(PAT|SAS)$"
)
SECRET_OPTION = re.compile(r"password|secret|token|account_key|connection_string|passphrase|custom_auth_header")
IN_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]*://)([^\s/]+)@", re.IGNORECASE)
IN_QUERY = re.compile(
    r"([?&](?:x-amz-(?:signature|credential|security-token)|x-goog-signature|sig|signature|key|token|access_token|private_token"
    r"|password)=)[^&\s'\"]+",
    re.IGNORECASE,
)
IN_HEADER = re.compile(
    r"\b(authorization['\"]?: *['\"]?(?:basic|bearer|token)? *|private-token['\"]?: *['\"]?)[^\s'\"]+", re.IGNORECASE
)


def redactor() -> Callable[[str], str]:
    """What hides them, as the environment and DVC's settings have them now."""
    known = sorted({*_of_environment(), *_of_dvc()}, key=len, reverse=True)
    any_known = re.compile("|".join(map(re.escape, known))) if known else None

    def redact(text: str) -> str:
        text = IN_ADDRESS.sub(_without_password, text)
        text = IN_QUERY.sub(rf"\g<1>{HIDDEN}", text)
        text = IN_HEADER.sub(rf"\g<1>{HIDDEN}", text)
        return any_known.sub(HIDDEN, text) if any_known else text

    return redact


def _without_password(found: re.Match[str]) -> str:
    """All before the @ but for the user of ssh://git@host, which is no secret."""
    scheme, who = found.groups()
    is_user = ":" not in who and "ssh" in scheme.lower()
    return found[0] if is_user else f"{scheme}{HIDDEN}@"


def _of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        if SECRET_VARIABLE.search(name.upper()) and not Path(value[:4096]).is_absolute():
            yield from _long_enough(value)


def _of_dvc() -> Iterator[str]:
    """Those that `dvc remote modify [--local] NAME password …` wrote."""
    for section in dvc_settings().values():
        for option, value in section.items():
            if value and SECRET_OPTION.search(option):
                yield from _long_enough(value.strip("\"'"))  # DVC quotes a value with a comma or #


def _long_enough(value: str) -> Iterator[str]:
    """The lines of a value: what is printed is read by the line."""
    yield from (line.strip() for line in value.splitlines() if len(line.strip()) >= SHORTEST)
