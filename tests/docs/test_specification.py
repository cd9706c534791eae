"""Docstrings and messages cite the specification by page and section: both exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGES = {page.name: page for page in sorted((ROOT / "docs" / "specification").glob("*.md"))}
SOURCES = [
    path for room in ("dpmodel", "backends", "tests", "examples", "benchmarks") for path in (ROOT / room).rglob("*.py")
]
CITATION = re.compile(r"specification/(\w+\.md)((?:(?:,| and|-)? ?\d+(?:\.\d+)*(?=[\s,;:)\-.\]\"']|$))*)")


def sections(page: Path) -> set[str]:
    """Numbers of the headings, "9.2.5", and of items in lists, "14.15"."""
    numbers: set[str] = set()
    current = ""
    for line in page.read_text().splitlines():
        if heading := re.match(r"#+ (\d+(?:\.\d+)*)\.? ", line):
            current = heading[1]
            numbers.add(current)
        elif item := re.match(r"(\d+)\. ", line):
            numbers.add(f"{current}.{item[1]}")
    return numbers


def citations() -> Iterator[tuple[str, str, str]]:
    """Where, page and section of every citation; the pages cite one another as `model.md` 4.3."""
    for path in [*SOURCES, *PAGES.values(), *(ROOT / "docs").glob("*.md")]:
        pattern = (
            re.compile(r"`(\w+\.md)`((?:(?:,| and|-) ?| )\d+(?:\.\d+)*)?")
            if path.parent.name == "specification"
            else CITATION
        )
        for found in pattern.finditer(path.read_text()):
            page, numbers = found[1], re.findall(r"\d+(?:\.\d+)*", found[2] or "")
            for number in numbers or [""]:
                yield f"{path.relative_to(ROOT)}", page, number


def test_citations_resolve() -> None:
    known = {name: sections(page) for name, page in PAGES.items()}
    cited = list(citations())
    assert len(cited) > 100
    lost = [each for each in cited if each[1] not in known or (each[2] and each[2] not in known[each[1]])]
    assert not lost


def test_nothing_is_cited_otherwise() -> None:
    """No bare "spec 4.4": a reader could not find it."""
    bare = [path for path in SOURCES if re.search(r"\bspec (\w+\.md|\d)", path.read_text())]
    assert set(bare) <= {Path(__file__)}


def test_every_page_is_in_the_documentation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    entries = yaml.safe_load(navigation.replace("!!python", ""))["nav"]
    listed = next(entry["Specification"] for entry in entries if "Specification" in entry)
    assert sorted(listed) == [f"specification/{name}" for name in sorted(PAGES)]
