"""The API's routes as one plain page, made from its OpenAPI: no scripts, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>discover: HTTP API</title>
</head>
<body>
<h1>discover {version}: HTTP API</h1>
{about}
<p>For programs: <a href="openapi.json">openapi.json</a></p>
{routes}
</body>
</html>
"""


def reference_page(openapi: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    info = openapi["info"]
    routes = "\n".join(
        _route(method, path, told)
        for path, methods in sorted(openapi["paths"].items())
        for method, told in methods.items()
    )
    about = "\n".join(f"<p>{escape(part)}</p>" for part in info["description"].split("\n\n"))
    return _PAGE.format(version=escape(info["version"]), about=about, routes=routes)


def _route(method: str, path: str, told: dict[str, Any]) -> str:
    return "\n".join(
        (
            f"<h2><code>{method.upper()} {escape(path)}</code> {escape(told['summary'])}</h2>",
            f"<p>{escape(told['description'])}</p>",
            "<ul>",
            *_parameters(told),
            *_body(told),
            "</ul>",
        )
    )


def _parameters(told: dict[str, Any]) -> Iterator[str]:
    for each in told.get("parameters", ()):
        needed = ", needed" if each.get("required") else ""
        text = f": {escape(each['description'])}" if each.get("description") else ""
        yield f"<li><code>{escape(each['name'])}</code> ({each['in']}{needed}){text}</li>"


def _body(told: dict[str, Any]) -> Iterator[str]:
    for content in told.get("requestBody", {}).get("content", {}).values():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        yield f"<li>body: JSON, <code>{escape(name)}</code> of openapi.json</li>"
