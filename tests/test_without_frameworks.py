"""Where a framework is not installed its tests are skipped, by name, and no others."""

import os
import subprocess
import sys
from pathlib import Path

BLOCK = """
import sys

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse)
"""
BROKEN = """
def test_broken():
    import torch_of_ours
"""


def test_skipped_by_name(tmp_path: Path) -> None:
    """A file that imports torch, a test that asks for it, and one with another module missing, which fails."""
    (tmp_path / "block.py").write_text(BLOCK)
    here = Path(__file__).parent
    broken = here / "test_broken.tmp.py"
    broken.write_text(BROKEN)
    line = [sys.executable, "-m", "pytest", "-p", "block", "-p", "no:cacheprovider", "-k", "torch or numpy or broken"]
    files = ["tests/train/test_moments.py", "tests/backends/test_objects.py", str(broken)]
    try:
        result = subprocess.run(
            [*line, *files],
            cwd=here.parent,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        broken.unlink()
    skips = [text for text in result.stdout.splitlines() if text.startswith("SKIPPED")]
    assert len(skips) == 2, result.stdout
    assert all(text.endswith("torch is not installed") for text in skips)
    assert "1 failed" in result.stdout
    assert "torch_of_ours" in result.stdout
    assert "error" not in result.stdout.splitlines()[-1]
