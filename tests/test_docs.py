"""README and docs/: short enough to be read, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

from engine.files import read_json

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_readme_can_be_read_at_once():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 330


def test_scripts_that_are_named_exist():
    for page in PAGES:
        for name in re.findall(r"(?:bash |python )(scripts/[\w./-]+\.(?:sh|py)|\w+\.py)", page.read_text()):
            assert (ROOT / name).exists(), (page.name, name)
        for module in re.findall(r"python -m (scripts\.[\w.]+)", page.read_text()):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), (page.name, module)


def test_the_docs_evaluation_is_a_script(tmp_path, train_tiny):
    (code,) = re.findall(
        r"^```python\n(\"\"\".*?)^```", (ROOT / "docs/evaluations.md").read_text(), re.MULTILINE | re.DOTALL
    )
    train_tiny()
    script = {"__name__": "eval_noise"}
    exec(code, script)
    checkpoint = tmp_path / "runs/digits/preactresnet18/none/seed0.best.pt"
    assert script["main"]([str(checkpoint), "--data-dir", str(tmp_path), "--device", "cpu", "--limit", "30"]) == 0
    record = read_json(checkpoint.with_name("seed0.best.noise-limit30.json"))
    assert list(record["cases"]) == ["clean", "noise8", "noise16"]
