"""The password of the Prefect server: two lines in `.env`, which Prefect reads in this folder and git ignores."""

import os
import secrets
from pathlib import Path

FILE = Path(".env")
SERVER = "PREFECT_SERVER_API_AUTH_STRING"  # the password that the server asks for
CLIENT = "PREFECT_API_AUTH_STRING"  # the password that clients send


def make_password(file: Path = FILE) -> None:
    """Add a random password to the file, which its user alone may read; its other lines stay.

    Raises:
        OSError: the file cannot be written, or is a link.
    """
    login = f"graftline:{secrets.token_urlsafe(24)}"
    lines = f"{SERVER}={login}\n{CLIENT}={login}\n"
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "a+b") as stream:
        os.fchmod(descriptor, 0o600)
        stream.seek(0)
        content = stream.read()
        stream.write((b"\n" if content and not content.endswith(b"\n") else b"") + lines.encode())
