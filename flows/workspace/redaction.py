"""What another program printed, or an error says, in; the same without a password, token or signature in it out, fit for logs and for
Prefect's database."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from flows.workspace.settings import dvc_settings

HIDDEN = "***"
SHORTEST = 6  # characters; a shorter value may be any word
NAMED = "GRAFTLINE_SECRETS"  # holds the names of further variables that are secret, whatever they are called

SECRET_VARIABLE = re.compile(
    r"SECRET|TOKEN|PASSW|PASSPHRASE|WEBHOOK|CREDENTIAL|COOKIE|SIGNATURE|AUTH_STRING|CONNECTION_(STRING|URL)"
    r"|(API|PRIVATE|ACCOUNT)_KEY(?!_ID)|(^|_)(API)?KEY$|(^|_)(SSH)?PASS$|(^|_)(PAT|SAS|AUTH|PW)$|_PWD$|^GRAFTLINE_EMAIL$"
)
PLACE = re.compile(r"(FILE|PATH|DIR|SOCK)$")  # where a secret lies is none
SECRET_OPTION = re.compile(r"password|secret|token|account_key|connection_string|passphrase|custom_auth_header")
# a password may have a slash in it; what follows a port is a path
IN_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]*://)([^\s/:@]*:(?!\d{1,5}/)\S+|[^\s/]+)@", re.IGNORECASE)
IN_QUERY = re.compile(
    r"([?&](?:x-amz-(?:signature|credential|security-token)|x-goog-signature|sig|signature|key|token|access_token|private_token"
    r"|pass|password)=)[^&\s'\"]+",
    re.IGNORECASE,
)
IN_HEADER = re.compile(
    r"\b((?:(?:proxy-)?authorization|(?:private|job|x-[a-z-]+)-token|x-api-key|(?:set-)?cookie)\\?['\"]?: *\\?['\"]?"
    r"(?:(?:basic|bearer|token|digest|negotiate|aws4-hmac-sha256) +)?)(?:=\"[^\"]*\"|[^'\"\n])+",
    re.IGNORECASE,
)
IN_SETTING = re.compile(r"\b((?:account|shared_?access)_?(?:key|signature)=)[^;\s'\"]+", re.IGNORECASE)


def in_a_line(error: Exception) -> str:
    """What an error says, so that Prefect may keep it."""
    return redactor()(" ".join(str(error).split())) or type(error).__name__


def redactor() -> Callable[[str], str]:
    """What hides them, as the environment and DVC's settings have them now."""
    known = sorted({*_of_environment(), *_of_dvc()}, key=len, reverse=True)
    any_known = re.compile("|".join(map(re.escape, known))) if known else None

    def redact(text: str) -> str:
        text = any_known.sub(HIDDEN, text) if any_known else text
        text = IN_ADDRESS.sub(_without_password, text)
        for found in (IN_QUERY, IN_HEADER, IN_SETTING):
            text = found.sub(rf"\g<1>{HIDDEN}", text)
        return text

    return redact


def _without_password(found: re.Match[str]) -> str:
    """All before the @ but for the user of ssh://git@host, which is no secret."""
    scheme, who = found.groups()
    is_user = ":" not in who and "ssh" in scheme.lower()
    return found[0] if is_user else f"{scheme}{HIDDEN}@"


def _of_environment() -> Iterator[str]:
    named = os.environ.get(NAMED, "").split(",")
    for name, value in os.environ.items():
        if name in named:
            yield from filter(None, [value.strip()])  # however short
            yield from _long_enough(value)
        elif SECRET_VARIABLE.search(name.upper()) and not (PLACE.search(name.upper()) or _is_place(value)):
            yield from _long_enough(value)


def _is_place(value: str) -> bool:
    """An absolute path into a folder that is there: a key in base64 may begin with a slash, too."""
    path = Path(value)
    return path.is_absolute() and len(path.parts) > 2 and os.access(path.parent, os.F_OK)


def _of_dvc() -> Iterator[str]:
    """Those that `dvc remote modify [--local] NAME password …` wrote."""
    for section in dvc_settings().values():
        for option, value in section.items():
            if value and SECRET_OPTION.search(option):
                yield from _long_enough(value.strip("\"'"))  # DVC quotes a value with a comma or #


def _long_enough(value: str) -> Iterator[str]:
    """The lines of a value: what is printed is read by the line."""
    yield from (line.strip() for line in value.splitlines() if len(line.strip()) >= SHORTEST)


def refuse_secrets(address: str) -> None:
    """Raises ValueError where an address holds what may be a password or a signature."""
    for scheme, found, rest in (part.partition("://") for part in address.split("::")):
        if found and (":" in rest.rpartition("@")[0] or (scheme in ("http", "https") and "?" in rest)):
            raise ValueError(
                "the landing's address holds a password or a query, which Prefect would show: "
                "leave it out and put it into the environment"
            )
