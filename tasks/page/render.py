"""Render the page: one HTML file that fetches nothing and runs only its own script."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from tasks.machine.names import without_commands

TEMPLATE = Path(__file__).parent / "template"
SCRIPTS = ("unpack.js", "gallery.js", "quarantine.js", "confusion.js", "map.js", "print.js")


def render(content: dict[str, Any]) -> str:
    """Return the page as text.

    Names and labels from the data are escaped in text, in attributes and in JSON, and none turns the direction of the
    text around it. A number in the JSON that is not finite is refused.
    """
    # a page without domains has no rule for them
    sheets = ("style.css", "domains.css") if content["domains"] else ("style.css",)
    style = "".join((TEMPLATE / name).read_text("utf-8") for name in sheets)
    parts = "\n".join((TEMPLATE / name).read_text("utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{parts}}})();\n'
    return _rendered(TEMPLATE, "page.html", content, style=style, script=script)


def render_alone(folder: Path, name: str, content: dict[str, Any]) -> str:
    """Return a page without a script, of a template in a folder and the sheet of the same name beside it."""
    style = (TEMPLATE / "style.css").read_text("utf-8") + (folder / name).with_suffix(".css").read_text("utf-8")
    return _rendered(folder, name, content, style=style, script="")


def _rendered(folder: Path, name: str, content: dict[str, Any], *, style: str, script: str) -> str:
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    page = _environment(folder).get_template(name)
    return page.render(content, style=Markup(style), script=Markup(script), policy=policy)  # noqa: S704  files of ours


@cache
def _environment(folder: Path) -> jinja2.Environment:
    """Return the Jinja environment that reads the templates of a folder, and the parts that all pages share.

    It keeps the compiled templates: compiling takes longer than rendering a page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATE]),
        autoescape=True,
        finalize=lambda value: without_commands(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False, "separators": (",", ":")}
    return environment


def _source(text: str) -> str:
    """Return the source that allows an inline script or style in a content security policy: its hash (CSP level 2)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
