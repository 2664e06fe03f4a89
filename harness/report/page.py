# SPDX-License-Identifier: GPL-2.0-or-later
"""From data to one self-contained HTML file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

_HERE: Final = Path(__file__).parent
_STATIC: Final = _HERE / "static"


def page(template: str, scripts: Sequence[str], title: str, fields: Mapping[str, Any],
         data: Any) -> str:
    """The page: ``fields`` are for the template, ``data`` for the scripts.

    The scripts are put in one after the other, ``base`` before them.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"), undefined=StrictUndefined,
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(f"{template}.html.j2").render(
        title=title, styles=Markup(_static("style.css")), data=_embedded(data),
        scripts=[Markup(_static(f"{name}.js")) for name in ("base", *scripts)], **fields)


def _static(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


def _embedded(data: Any) -> Markup:
    """JSON that no script element is ended or begun by."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)
