"""`/docs`: the HTTP API as one page, made from the OpenAPI description. No script, and nothing from elsewhere.

The usual viewers load theirs from a content delivery network, which a broker on a closed network can't, and a page that
is served beside a trusting API should not.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete")

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --get: #2a7; --post: #27c; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem 1rem 6rem; }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line) }
section { border: 1px solid var(--line); border-radius: .5rem; padding: 0 1rem 1rem; margin: 1rem 0 }
code, pre { font: .875em/1.5 ui-monospace, monospace }
pre { background: var(--soft); padding: .75rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0 }
td { border-top: 1px solid var(--line) } nav a { display: block }
.method { color: #fff; background: var(--get); border-radius: .25rem; padding: .1rem .5rem; text-transform: uppercase }
.post { background: var(--post) } .soft { opacity: .7 }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{style}</style></head><body>
<h1>{title} <span class="soft">{version}</span></h1>
{description}
<p>The description that this page is made from: <a href="{openapi}">{openapi}</a>.</p>
<nav>{contents}</nav>
{body}
<h2 id="models">Models</h2>
{models}
</body></html>
"""

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
"""What the page may load: its own style, and nothing else."""


def render(openapi: Mapping[str, Any], openapi_url: str) -> str:
    """The page for an OpenAPI description."""
    operations = [
        (path, method, item[method]) for path, item in openapi["paths"].items() for method in _METHODS if method in item
    ]
    tags = list(dict.fromkeys(tag for _, _, operation in operations for tag in operation.get("tags", ["other"])))
    return _PAGE.format(
        title=escape(openapi["info"]["title"]),
        version=escape(openapi["info"]["version"]),
        description=_prose(openapi["info"].get("description", "")),
        style=_STYLE,
        openapi=escape(openapi_url),
        contents="".join(_link(path, method, operation) for path, method, operation in operations),
        body="".join(part for tag in tags for part in _group(tag, operations)),
        models="".join(
            _model(name, schema) for name, schema in openapi.get("components", {}).get("schemas", {}).items()
        ),
    )


def _link(path: str, method: str, operation: Mapping[str, Any]) -> str:
    anchor = escape(_anchor(path, method))
    return (
        f'<a href="#{anchor}"><code>{method.upper()} {escape(path)}</code> {escape(operation.get("summary", ""))}</a>'
    )


def _anchor(path: str, method: str) -> str:
    return f"{method}-{path.strip('/')}"


def _group(tag: str, operations: list[tuple[str, str, Mapping[str, Any]]]) -> Iterator[str]:
    yield f"<h2>{escape(tag.capitalize())}</h2>"
    for path, method, operation in operations:
        if tag in operation.get("tags", ["other"]):
            yield "".join(_operation(path, method, operation))


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f'<section id="{escape(_anchor(path, method))}">'
    yield f'<h3><code><span class="method {method}">{method}</span> {escape(path)}</code></h3>'
    yield _prose(operation.get("description", ""))
    parameters = operation.get("parameters", [])
    if parameters:
        rows = [
            (item["name"], item["in"], _type(item["schema"]), _about(item["schema"], item.get("description", "")))
            for item in parameters
        ]
        yield "<h4>Parameters</h4>" + _table(("name", "in", "type", ""), rows)
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<h4>Body: {escape(kind)}</h4>"
        yield from _fields_of(content["schema"])
        if "example" in content:
            yield _example(content["example"])
    yield "<h4>Answers</h4>" + _table(("status", "", ""), [_answer(*item) for item in operation["responses"].items()])
    yield "</section>"


def _answer(status: str, response: Mapping[str, Any]) -> tuple[str, str, str]:
    kinds = response.get("content", {})
    types = " or ".join(_type(content.get("schema", {})) or kind for kind, content in kinds.items())
    return status, types, response.get("description", "")


def _fields_of(schema: Mapping[str, Any]) -> Iterator[str]:
    """The fields of an object; of alternatives, those of the first that has any."""
    for option in (schema, *schema.get("anyOf", ())):
        if "properties" in option:
            yield _fields(option)
            if "anyOf" in schema:
                yield "<p>Or a list of such objects.</p>"
            return


def _model(name: str, schema: Mapping[str, Any]) -> str:
    about = _prose(schema.get("description", ""))
    return f'<section id="model-{escape(name)}"><h3><code>{escape(name)}</code></h3>{about}{_fields(schema)}</section>'


def _fields(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (name + ("" if name in required else " ?"), _type(field), _about(field, field.get("description", "")))
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(("field", "type", ""), rows)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(map(json.dumps, schema["enum"]))
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " | ".join(_type(option) for option in schema[several])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any" if schema else ""))


def _about(schema: Mapping[str, Any], description: str) -> str:
    """The description, the bounds, the default and an example, in one line."""
    low, high = schema.get("minimum"), schema.get("maximum")
    parts = [description]
    if low is not None and high is not None:
        parts.append(f"{low} to {high}.")
    if schema.get("default") not in (None, ""):
        parts.append(f"Default: {json.dumps(schema['default'])}.")
    if schema.get("examples"):
        parts.append(f"Example: {json.dumps(schema['examples'][0])}.")
    return " ".join(filter(None, parts))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Iterable[str], kind: str) -> str:
        return "<tr>" + "".join(f"<{kind}>{cell}</{kind}>" for cell in cells) + "</tr>"

    body = (line((f"<code>{escape(first)}</code>", *(_inline(cell) for cell in rest)), "td") for first, *rest in rows)
    return f"<table>{line(map(escape, heads), 'th')}{''.join(body)}</table>"


def _example(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2))}</pre>"


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph.strip())


def _inline(text: str) -> str:
    """Text with its `code` set as such."""
    parts = escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
