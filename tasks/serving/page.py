"""The page that describes a service: its OpenAPI description as plain HTML, without a script."""

from typing import Any

from markupsafe import escape

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "code,pre{background:#f4f4f4;padding:.1rem .3rem}pre{padding:.6rem;overflow:auto}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}code,pre{background:#2a2a2a}}"
)


def page_of(description: dict[str, Any]) -> str:
    """Return the HTML page of an OpenAPI description."""
    about = description["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(about['title'])}</title>"
        f"<style>{STYLE}</style><h1>{escape(about['title'])}</h1><p>{escape(about['description'])}</p>"
    ]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts.append(
                f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2><p>{escape(operation['summary'])}</p>"
            )
            parts += [f"<p>{escape(line)}</p>" for line in operation.get("description", "").split("\n\n") if line]
            if example := operation.get("x-example"):
                parts.append(f"<pre>{escape(example)}</pre>")
    parts.append("<p>For programs: <a href=/openapi.json>openapi.json</a></p></html>\n")
    return "".join(parts)
