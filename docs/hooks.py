"""Pages that are made from the code: settings and capabilities."""

from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace ``<!-- settings -->``, ``<!-- training settings -->`` and ``<!-- capabilities -->`` by tables."""
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
    return markdown
