"""Hides passwords, tokens and signatures before logs and Prefect's database get a program's output or an error."""

import base64
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

from tasks.machine.dvc_files import dvc_settings
from tasks.machine.names import on_one_line

HIDDEN = "***"
SHORTEST = 6  # characters; a shorter value may be an ordinary word
NAMED = "GRAFTLINE_SECRETS"  # this variable names further variables that are secret

SECRET_VARIABLE = re.compile(
    r"SECRET|TOKEN|PASSW|PASSPHRASE|WEBHOOK|CREDENTIAL|COOKIE|SIGNATURE|AUTH_STRING|CONNECTION_(STRING|URL)"
    r"|(API|PRIVATE|ACCOUNT)_KEY(?!_ID)|(^|_)(API)?KEY$|(^|_)(SSH)?PASS$|(^|_)(PAT|SAS|AUTH|PW)$|_PWD$"
    r"|^GRAFTLINE_EMAIL$"
)
PLACE = re.compile(r"(FILE|PATH|DIR|SOCK)$")  # the place of a secret is not secret
SECRET_OPTION = re.compile(r"password|secret|token|account_key|connection_string|passphrase|custom_auth_header")
# a password may contain a slash; after a port comes a path
IN_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]*://)([^\s/:@]*:(?!\d{1,5}/)\S+|[^\s/]+)@", re.IGNORECASE)
IN_QUERY = re.compile(
    r"([?&](?:x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|sig|signature|auth"
    r"|(?:[a-z0-9]+[-_.])*(?:(?:api|access|auth)?(?:key|token)|secret|pass|passwd|password))=)[^&\s'\"]+",
    re.IGNORECASE,
)
# whoever has the part of an address behind these can call it
IN_WEBHOOK = re.compile(
    r"\b(https?://[^\s/'\"]*(?:hooks\.slack\.com/(?:services|workflows|triggers)"
    r"|discord(?:app)?\.com/api/(?:v\d+/)?webhooks|api\.telegram\.org"
    r"|(?:[^\s'\"?]*?/)?(?:hooks?|webhooks?|webhookb2|incomingwebhook))/)[^\s'\"]+",
    re.IGNORECASE,
)
IN_HEADER = re.compile(
    r"\b((?:(?:proxy-)?authorization|(?:private|job|x-[a-z-]+)-token|x-api-key|(?:set-)?cookie)\\?['\"]?: *\\?['\"]?"
    r"(?:(?:basic|bearer|token|digest|negotiate|aws4-hmac-sha256) +)?)(?:=\"[^\"]*\"|[^'\"\n])+",
    re.IGNORECASE,
)
IN_SETTING = re.compile(r"\b((?:account|shared_?access)_?(?:key|signature)=)[^;\s'\"]+", re.IGNORECASE)


def in_a_line(error: Exception) -> str:
    """Return the message of an error in one line without secrets, fit for Prefect's database."""
    return on_one_line(redactor()(" ".join(str(error).split()))) or type(error).__name__


def redactor() -> Callable[[str], str]:
    """Return a function that hides the secrets which the environment and DVC's settings have now."""
    plain = {*_secrets_of_environment(), *_secrets_of_dvc()}
    known = sorted({form for secret in plain for form in _forms(secret)}, key=len, reverse=True)
    any_known = re.compile("|".join(map(re.escape, known))) if known else None

    def redact(text: str) -> str:
        text = any_known.sub(HIDDEN, text) if any_known else text
        text = IN_ADDRESS.sub(_without_password, text)
        for pattern in (IN_QUERY, IN_WEBHOOK, IN_HEADER, IN_SETTING):
            text = pattern.sub(rf"\g<1>{HIDDEN}", text)
        return text

    return redact


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret in its printed forms: as it is, encoded for an address, and in base64, alone or within a text."""
    yield secret
    content = os.fsencode(secret)  # a variable may hold any bytes
    for encoded in (quote(content, safe=""), quote(content), quote_plus(content)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), encoded)
    if len(content) < SHORTEST:
        return
    for before in range(3):  # bytes in front of it, which shift where its characters begin
        first, last = -(-8 * before // 6), 8 * (before + len(content)) // 6  # the characters that it makes alone
        whole = base64.b64encode(bytes(before) + content).decode("ascii")[first:last]
        yield from (whole, whole.replace("+", "-").replace("/", "_"))


def _without_password(address: re.Match[str]) -> str:
    """Hide all before the @, except the user of ssh://git@host, which is not secret."""
    scheme, login = address.groups()
    is_user = ":" not in login and "ssh" in scheme.lower()
    return address[0] if is_user else f"{scheme}{HIDDEN}@"


def _secrets_of_environment() -> Iterator[str]:
    named = os.environ.get(NAMED, "").split(",")
    for name, value in os.environ.items():
        if name in named:
            yield from filter(None, [value.strip()])  # short ones too
            yield from _long_lines(value)
        elif SECRET_VARIABLE.search(name.upper()) and not (PLACE.search(name.upper()) or _is_place(value)):
            yield from _long_lines(value)


def _is_place(value: str) -> bool:
    """Return whether a value is an absolute path into an existing folder. A base64 key may begin with a slash too."""
    path = Path(value)
    return path.is_absolute() and len(path.parts) > 2 and os.access(path.parent, os.F_OK)


def _secrets_of_dvc() -> Iterator[str]:
    """Yield the secrets that `dvc remote modify [--local] NAME password …` wrote."""
    for section in dvc_settings().values():
        for option, value in section.items():
            if value and SECRET_OPTION.search(option):
                yield from _long_lines(value.strip("\"'"))  # DVC quotes a value with a comma or #


def _long_lines(value: str) -> Iterator[str]:
    """Yield the lines of a value that are long enough: output is redacted line by line."""
    yield from (line.strip() for line in value.splitlines() if len(line.strip()) >= SHORTEST)


def refuse_secrets(address: str) -> None:
    """Raise ValueError if an address may hold a password or a signature."""
    for scheme, separator, rest in (part.partition("://") for part in address.split("::")):
        if separator and (":" in rest.rpartition("@")[0] or (scheme in ("http", "https") and "?" in rest)):
            raise ValueError(
                "the landing's address holds a password or a query, which Prefect would show: "
                "leave it out and put it into the environment"
            )
