"""Pages that are made from the code, and formulas that are made into MathML, which browsers show by themselves."""

import html
import re
from typing import Any

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Replace LaTeX by MathML.  A formula that cannot be read fails the build."""
    from latex2mathml.converter import convert

    def mathml(match: re.Match[str]) -> str:
        kind = "block" if match[2] == "[" else "inline"
        return str(convert(html.unescape(match[3]).strip(), display=kind))

    return FORMULA.sub(mathml, content)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace comments such as ``<!-- settings -->`` by tables."""
    if "<!-- settings -->" in markdown:
        from dpmodel.model.settings import ModelSettings
        from dpmodel.settings import reference

        markdown = markdown.replace("<!-- settings -->", reference(ModelSettings, "model"))
    if "<!-- training settings -->" in markdown:
        from dpmodel.cli.schema import training_reference

        markdown = markdown.replace("<!-- training settings -->", training_reference())
    if "<!-- capabilities -->" in markdown:
        from dpmodel.capabilities import markdown_table

        markdown = markdown.replace("<!-- capabilities -->", markdown_table())
    if "<!-- lammps styles -->" in markdown:
        from dpmodel.engines.lammps.styles import markdown_table as styles

        markdown = markdown.replace("<!-- lammps styles -->", styles())
    return markdown
