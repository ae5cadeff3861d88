"""scripts/report.py: one page with all that is there, which loads nothing and cannot be broken by what it shows."""

import html
import json
import re
import shutil
import struct
import subprocess
import zlib
from html.parser import HTMLParser

import pytest

import recipes
from engine.files import RunFiles
from scripts import report, tables

HOSTILE = '</script><script>alert(1)</script><!-- & "odd" \u2028 <b>é'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """What a page holds: its data, all tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.raw = [], "", {}
        self.feed(text)
        self.data = json.loads(next(content for attributes, content in self.scripts if attributes.get("id") == "data"))

    @property
    def scripts(self):
        """(attributes, content) of every script."""
        return [(attributes, self.raw.get(i, "")) for i, (tag, attributes) in enumerate(self.tags) if tag == "script"]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.cdata_elem:
            self.raw[len(self.tags) - 1] = self.raw.get(len(self.tags) - 1, "") + data
        else:
            self.text += data


@pytest.fixture
def make(tmp_path, monkeypatch):
    """make() -> Page of tmp_path, with Table 3 as the only one of the paper's, or those of the names given."""

    def made(*names):
        monkeypatch.setattr(tables, "ALL", names or ("table3",))
        assert report.main(["--out", str(tmp_path)]) == 0
        return Page((tmp_path / "report.html").read_text())

    return made


def row(**more):
    """A row of a table's file."""
    numbers = ("mean", "std", "paper_mean", "paper_std", "difference", "rank", "paper_rank", "best_other")
    differences = [f"{name}{end}" for name in ("to_none", "to_best") for end in ("", "_low", "_high")]
    cell = {"dataset": "digits", "model": "preactresnet18", "method": "none", "variant": "", "label": "No Mixup"}
    shown = {"metric": "test_error", "heading": "test error (%)", "better": "lower", "n": 0, "wanted": 5}
    return cell | shown | dict.fromkeys([*numbers, *differences]) | more


def write_table(out, file, rows, **header):
    """Write <out>/tables/<file>.json as scripts/tables.py would; what it holds."""
    (out / "tables").mkdir(exist_ok=True)
    found = {"name": "demo", "title": "Demo: digits", "note": "", "remark": ""} | header | {"rows": rows}
    (out / f"tables/{file}.json").write_text(json.dumps(found))
    return found


def write_figure(out, name, caption):
    """Write a PNG of 600 x 300 black pixels at 300 dots an inch, and its caption."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    (out / "figures").mkdir(exist_ok=True)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 600, 300, 1, 0, 0, 0, 0),
        b"pHYs": struct.pack(">IIB", 11811, 11811, 1),
        b"IDAT": zlib.compress(bytes(76 * 300)),
        b"IEND": b"",
    }
    picture = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*item) for item in chunks.items())
    (out / f"figures/{name}.png").write_bytes(picture)
    (out / f"figures/{name}.txt").write_text(caption)


def files_of(out, method, seed=0, folder="runs-epochs400", epochs=400):
    """The RunFiles of a run on digits, with their folder made."""
    found = RunFiles(out / folder, recipes.resolve("digits", "preactresnet18", method, seed, width=4, epochs=epochs))
    found.stem.parent.mkdir(parents=True, exist_ok=True)
    return found


def write_log(files, epochs):
    """Write a log of so many epochs: the validation error falls from 90 by 0.1 an epoch."""
    lines = [{"epoch": i, "val_error": 90 - 0.1 * i, "train_loss": 2 / (1 + i), "seconds": i} for i in range(epochs)]
    files.log.write_text("".join(json.dumps(line) + "\n" for line in lines))


def finish(files, **numbers):
    """Write the result of a run."""
    write_log(files, files.recipe["epochs"])
    files.result.write_text(json.dumps({"recipe": files.recipe, "val_error": 50.1, "seconds": 60.0} | numbers))


def stop(files, epochs):
    """Leave a run as one that was stopped after so many epochs."""
    files.save_checkpoint({"net": {}})
    write_log(files, epochs)


def test_an_empty_folder_gives_every_table_and_figure_as_missing(make):
    page = make(*tables.ALL)
    shown = [table["short"] for table in page.data["tables"]]
    assert shown == [f"Table {n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12)]
    assert all(table["rows"] and all(row["n"] == 0 for row in table["rows"]) for table in page.data["tables"])
    assert {run["state"] for run in page.data["runs"]} == {"missing"} and len(page.data["runs"]) > 500
    for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15):
        assert f"bash scripts/figure{n}.sh" in page.text
    assert "Table 9, Figure 11 and Figure 12 are unknown" in page.text and "figure11.sh" not in page.text


def test_the_page_holds_what_the_tables_files_say(make, tmp_path):
    rows = [row(n=3, mean=20.5, std=0.25, to_none=-1e-9), row(method="mixup", mean=None)]
    plain = write_table(tmp_path, "demo", rows)
    short = write_table(tmp_path, "demo-epochs2", [row()], note="not the paper's recipe: epochs 2", remark="A remark.")
    found = {table["file"]: table for table in make().data["tables"]}
    assert list(found) == ["table3", "demo", "demo-epochs2"]
    for file, table in (("demo", plain), ("demo-epochs2", short)):
        assert {name: found[file][name] for name in table} == table
    assert found["demo-epochs2"]["short"] == "Demo (epochs2)"


def test_tables_of_trainings_are_fresh_and_those_of_evaluations_as_they_were_rendered(make, tmp_path):
    for name in ("table3", "table4"):
        write_table(tmp_path, f"{name}-epochs2", [row()], name=name, title=f"{name}: x", note="epochs 2")
        write_table(tmp_path, name, [row(n=1)], name=name, title=f"{name}: x")
    tables = [table for table in make().data["tables"] if table["name"] in ("table3", "table4")]
    assert [(table["file"], len(table["rows"])) for table in tables] == [
        ("table3", 18),
        ("table3-epochs2", 1),
        ("table4", 1),
        ("table4-epochs2", 1),
    ]


def test_odd_text_cannot_leave_its_place(make, tmp_path):
    write_table(tmp_path, "demo", [row(label=HOSTILE, heading=HOSTILE)], title=HOSTILE, note=HOSTILE)
    write_figure(tmp_path, "figure4-<b>&", HOSTILE)
    files = files_of(tmp_path, "none")
    stop(files, 3)
    files.failed.write_text(f"exit status 1\n{HOSTILE}\n")
    page = make()
    assert len(page.scripts) == 2 and not any(tag == "b" for tag, _ in page.tags)
    table = page.data["tables"][-1]
    assert (table["title"], table["note"], table["rows"][0]["label"]) == (HOSTILE, HOSTILE, HOSTILE)
    assert HOSTILE.split("\u2028")[0] in page.data["runs"][-1]["failure"]
    assert HOSTILE in page.text, "the caption is shown as it is written"


def test_nothing_is_loaded_from_elsewhere(make, tmp_path):
    write_figure(tmp_path, "figure1", "A caption.")
    page = make()
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            value = attributes.get(name, "data:")
            assert value.startswith(("data:", "#")) or (tag == "a" and value.startswith("https://arxiv.org/"))
    text = (tmp_path / "report.html").read_text()
    assert "url(" not in text and "@import" not in text and "fetch(" not in text and "import(" not in text
    assert "default-src 'none'" in next(a["content"] for _, a in page.tags if "http-equiv" in a)


def test_figures_come_with_caption_and_the_size_of_print(make, tmp_path):
    write_figure(tmp_path, "figure4-corruption", "Errors & more.")
    page = make()
    picture = next(attributes for tag, attributes in page.tags if tag == "img")
    assert (picture["width"], picture["height"]) == ("300", "150"), "300 dots an inch are shown as 150"
    assert picture["src"].startswith("data:image/png;base64,") and "Errors & more." in page.text
    assert picture["alt"] == "Figure 4: errors under common corruptions" and "scripts/figure4.sh" not in page.text


def test_runs_of_all_states_are_shown(make, tmp_path):
    finish(files_of(tmp_path, "none"))
    stop(files_of(tmp_path, "mixup"), 150)
    failed = files_of(tmp_path, "cutmix", seed=10)
    failed.failed.write_text("\n".join(["exit status 1", *map(str, range(100)), "train.py: the loss is nan"]))
    finish(files_of(tmp_path, "cutmix", seed=9))
    page = make()
    runs = {(run["method"], run["seed"]): run for run in page.data["runs"] if run["dataset"] == "digits"}
    assert [run["state"] for run in runs.values()] == ["finished", "failed", "stopped", "finished"]
    assert list(runs) == [("cutmix", 9), ("cutmix", 10), ("mixup", 0), ("none", 0)]
    assert (runs["mixup", 0]["epoch"], runs["mixup", 0]["epochs"]) == (150, 400)
    assert (runs["none", 0]["val_error"], runs["none", 0]["folder"]) == (50.1, "runs-epochs400")
    lines = runs["cutmix", 10]["failure"].splitlines()
    assert lines[-1] == "train.py: the loss is nan" and len(lines) == report.LOG_LINES
    missing = [run for run in page.data["runs"] if run["state"] == "missing"]
    assert [(run["method"], run["grids"]) for run in missing] == [
        ("patchup_soft", ["table3"]),
        ("patchup_hard", ["table3"]),
    ]
    assert {curve["method"] for curve in page.data["curves"]} == {"none", "mixup", "cutmix"}
    assert "2 of 6 runs finished" in page.text


def test_a_run_of_the_paper_is_counted_where_its_tables_are(make, tmp_path):
    recipe = recipes.resolve("imagenet", "resnet50", "patchup_soft")
    files = RunFiles(tmp_path / "runs", recipe)
    files.stem.parent.mkdir(parents=True)
    finish(files, classes=1000, test_error=22.5, test_top5_error=6.5)
    data = make().data
    assert [(run["state"], run["grids"]) for run in data["runs"]] == [("finished", ["table3"]), ("missing", ["table3"])]
    ours = {(row["metric"], row["method"]): row["mean"] for row in data["tables"][0]["rows"] if row["n"]}
    assert ours == {("test_error", "patchup_soft"): 22.5, ("test_top5_error", "patchup_soft"): 6.5}


@pytest.mark.parametrize("count", [1, 2, 199, 200, 201, 399, 2000])
def test_thinned_curves_keep_the_first_and_the_last_epoch(count):
    found = report.thinned(count, count)
    assert found[0] == 0 and found[-1] == count - 1 and found == sorted(set(found))
    assert len(found) <= report.MOST_POINTS + 1


def test_curves_of_runs_that_stopped_have_the_epochs_of_those_that_finished(tmp_path):
    finished, stopped = (files_of(tmp_path, "none", seed, epochs=2000) for seed in (0, 1))
    write_log(finished, 2000)
    write_log(stopped, 705)
    whole, part = (report.curve(files.log, 2000) for files in (finished, stopped))
    assert part["epoch"][:-1] == whole["epoch"][: len(part["epoch"]) - 1] and part["epoch"][-1] == 705
    assert whole["epoch"][0] == 1 and whole["epoch"][-1] == 2000
    assert whole["error"][0] == 90 and whole["loss"][0] == 2 and whole["error"][-1] == pytest.approx(-109.9)


def test_a_curve_leaves_out_a_torn_line_and_what_is_not_finite(tmp_path):
    path = tmp_path / "seed0.jsonl"
    path.write_text('{"epoch": 0, "val_error": 90.0, "train_loss": NaN}\n{"epoch": 1, "val_er')
    assert report.curve(path, 5) == {"epoch": [1], "error": [90], "loss": [None]}
    path.write_text("")
    assert report.curve(path, 5) is None


def test_the_same_files_give_the_same_page_but_for_the_date(make, tmp_path):
    write_table(tmp_path, "demo", [row(n=3, mean=20.5)])
    for name in ("figure4", "figure13"):
        write_figure(tmp_path, name, "A caption.")
    for method in ("mixup", "cutmix", "none"):
        finish(files_of(tmp_path, method))
    texts = []
    for _ in range(2):
        make()
        texts.append(re.sub(r"Made [^<]*", "", (tmp_path / "report.html").read_text()))
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "path, content, words",
    [
        ("tables/demo.json", "{", "demo.json is not a result of scripts/tables.py"),
        (
            "tables/demo.json",
            '{"rows": [{"n": 1}]}',
            "demo.json is no table of scripts/tables.py (KeyError",
        ),
        ("figures/figure1.png", "GIF89a", "figure1.png is no PNG"),
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path, monkeypatch, capsys, path, content, words):
    monkeypatch.setattr(tables, "ALL", ())
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text(content)
    assert report.main(["--out", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert words in errors and errors.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


# ---- in a browser ----


PROBE = """
<pre id="probe"></pre><script>
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const methods = () => all("#table-demo .panel:first-child tbody th").map((cell) => cell.textContent);
const head = () => document.querySelector("#table-demo .panel:first-child thead th:nth-child(2)");
const button = (words) => all("button").find((found) => found.textContent.startsWith(words));
const seen = { asWritten: methods() };
seen.cells = all("#table-demo .panel:first-child tbody td").map((cell) => cell.textContent);
head().firstChild.click();
Object.assign(seen, { sorted: methods(), direction: head().getAttribute("aria-sort") });
head().firstChild.click();
seen.turned = methods();
button("Show differences").click();
seen.tags = all("#table-demo .tag").map((tag) => tag.textContent);
seen.runs = all("#runs-body tbody tr").map((line) => line.firstChild.textContent);
seen.lines = all(".chart:first-child polyline").length;
button("Input Mixup").click();
Object.assign(seen, { filtered: methods(), hash: location.hash });
seen.fewerLines = all(".chart:first-child polyline").length;
button("ImageNet").click();
seen.nothing = all(".notice").filter((notice) => notice.textContent.startsWith("No ")).length;
document.getElementById("probe").textContent = JSON.stringify(seen);
</script>"""

NARROW = """<iframe id="page" style="width:360px;height:740px;border:0" srcdoc="{page}"></iframe><pre id="probe"></pre>
<script>
addEventListener("load", () => {{
  const page = document.getElementById("page").contentDocument;
  document.getElementById("probe").textContent = JSON.stringify({{
    room: page.documentElement.clientWidth, page: page.documentElement.scrollWidth,
    table: page.querySelector("#table-demo table").scrollWidth }});
}});
</script>"""


def browse(path, text):
    """What the script in a page, written to path, leaves in #probe as JSON."""
    path.write_text(text)
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", path.as_uri()]
    folder = path.parent / "profile"  # of its own, so that a browser which runs is left alone
    found = subprocess.run([*command, f"--user-data-dir={folder}"], capture_output=True, text=True, timeout=120)
    content = re.search(r'<pre id="probe">(.*?)</pre>', found.stdout, re.DOTALL)
    assert content and content[1], f"the page's script ended early: {found.stderr[-2000:]}"
    return json.loads(html.unescape(content[1]))


@pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on PATH")
def test_the_page_in_a_browser(make, tmp_path):
    interval = {"to_none": -3.0, "to_none_low": -4.0, "to_none_high": -2.0}
    rows = [
        row(n=5, mean=20.0, std=0.5, rank=2, paper_mean=22.44, paper_std=0.23, difference=-2.44),
        row(method="mixup", label="Input Mixup", n=3, mean=17.0, std=0.25, rank=1, **interval),
        row(method="cutout", label="Cutout"),
        row(method="cutmix", label="CutMix", wanted=0, paper_mean=18.32),
        row(method="dropblock", label="DropBlock", n=5, mean=21.0, to_none=1.0, to_none_low=-0.5, to_none_high=2.5),
    ]
    write_table(tmp_path, "demo", rows)
    finish(files_of(tmp_path, "none"))
    stop(files_of(tmp_path, "mixup"), 150)
    make()
    page = (tmp_path / "report.html").read_text()
    seen = browse(tmp_path / "probe.html", page.replace("</body>", f"{PROBE}</body>"))
    written = ["No Mixup", "Input Mixup", "Cutout", "CutMix", "DropBlock"]
    assert seen["asWritten"] == written
    cells = [seen["cells"][i : i + 4] for i in range(0, 20, 4)]
    assert cells[0] == ["20.00 ± 0.50 (second best)", "5 of 5", "22.44 ± 0.23", "−2.44"]
    assert cells[1] == ["17.00 ± 0.25 (best)", "3 of 5", "", ""]
    assert cells[2] == ["missing", "0 of 5", "", ""] and cells[3] == ["cited", "", "18.32", ""]
    assert seen["sorted"] == ["Input Mixup", "No Mixup", "DropBlock", "Cutout", "CutMix"], "what is missing comes last"
    assert seen["direction"] == "ascending"
    assert seen["turned"] == ["DropBlock", "No Mixup", "Input Mixup", "Cutout", "CutMix"]
    assert seen["tags"] == ["better"], "only the interval that leaves zero out is marked"
    assert seen["runs"] == ["missing", "missing", "stopped at epoch 150 of 400", "finished"]
    assert seen["filtered"] == ["Input Mixup"] and seen["hash"] == "#method=mixup&details=1"
    assert (seen["lines"], seen["fewerLines"]) == (2, 1)
    assert seen["nothing"] == 3, "progress, curves and runs say that nothing matches; Table 3 cites Input Mixup"

    seen = browse(tmp_path / "narrow.html", NARROW.format(page=html.escape(page)))
    assert 300 < seen["room"] <= 360 and seen["page"] == seen["room"], "the page does not scroll sideways"
    assert seen["table"] > seen["room"], "what is wider than the page scrolls in its own box"
