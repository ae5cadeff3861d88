"""scripts/report: one page with all that is there, which loads nothing and cannot be broken by what it shows."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from PIL import Image

import recipes
from engine.runs import RunFiles
from scripts import tables
from scripts.report import __main__ as report
from scripts.report import content, curves

HOSTILE = '</script><script>alert(1)</script><!-- & "odd" \u2028 <b>é</table>'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def plain(source):
    """The text of a piece of a page."""
    return " ".join(html.unescape(re.sub("<[^>]*>", "", source)).split())


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, its text, and the texts of the rows of its tables."""

    def __init__(self, source):
        super().__init__()
        self.source, self.tags, self.text = source, [], ""
        self.feed(source)
        rows = re.findall("<tr[ >].*?</tr>", source, re.DOTALL)
        self.rows = [[plain(cell) for cell in re.findall("<t[hd][ >].*?</t[hd]>", row, re.DOTALL)] for row in rows]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if not self.cdata_elem:
            self.text += data

    def titles(self):
        """The titles of the tables that are open, and of those that are folded."""
        tables = re.findall(r'<details class="table"( open)?>\s*<summary><h3>(.*?)</h3>', self.source)
        return [title for is_open, title in tables if is_open], [title for is_open, title in tables if not is_open]


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
    cell = {"dataset": "digits", "model": "preactresnet18", "method": "none", "variant": "", "label": "No Mixup"}
    shown = {"metric": "test_error", "heading": "test error (%)", "better": "lower", "n": 0, "wanted": 5}
    return dict.fromkeys([*content.NUMBERS, "best_other"]) | cell | shown | more


def write_table(out, file, rows, **header):
    """Write <out>/tables/<file>.json as scripts/tables.py would."""
    (out / "tables").mkdir(exist_ok=True)
    table = {"name": "demo", "title": "Demo: digits", "note": "", "remark": ""} | header | {"rows": rows}
    (out / f"tables/{file}.json").write_text(json.dumps(table))


def write_figure(out, name, caption):
    """Write a PNG of 600 x 300 black pixels at 300 dots an inch, and its caption."""
    (out / "figures").mkdir(exist_ok=True)
    Image.new("1", (600, 300)).save(out / f"figures/{name}.png", dpi=(300, 300))
    (out / f"figures/{name}.txt").write_text(caption)


def files_of(out, method, seed=0, folder="runs-epochs400", epochs=400, recipe=None):
    """The RunFiles of a run, by default on digits, with their folder made."""
    recipe = recipe or recipes.resolve("digits", "preactresnet18", method, seed, width=4, epochs=epochs)
    files = RunFiles(out / folder, recipe)
    files.stem.parent.mkdir(parents=True, exist_ok=True)
    return files


def write_log(files, epochs):
    """Write a log of so many epochs: the validation error falls from 90 by 0.1 an epoch."""
    lines = ({"epoch": i, "val_error": 90 - 0.1 * i, "train_loss": 2 / (1 + i), "seconds": i} for i in range(epochs))
    files.log.write_text("".join(json.dumps(line) + "\n" for line in lines))


def finish(files, **numbers):
    """Write the result of a run."""
    write_log(files, files.recipe["epochs"])
    measured = {"recipe": files.recipe, "dataset": files.recipe["dataset"], "val_error": 50.1, "seconds": 60.0}
    files.result.write_text(json.dumps(measured | numbers))


def stop(files, epochs):
    """Leave a run as one that was stopped after so many epochs; its files."""
    files.save_checkpoint({"net": {}})
    write_log(files, epochs)
    return files


def of_table3(out, method="patchup_soft", epochs=300):
    """The files of a run in the place of Table 3's."""
    return files_of(out, method, folder="runs", recipe=recipes.resolve("imagenet", "resnet50", method, epochs=epochs))


# ---- what is shown ----


def test_an_empty_folder_gives_every_table_folded_and_every_figure_as_missing(make):
    page = make(*tables.ALL)
    assert page.titles()[0] == []
    assert [title.partition(":")[0] for title in page.titles()[1]] == [f"Table {n}" for n in (1, 2, 3, 6, 7, 8, 11, 12)]
    for name in ("table4", "table5", "table10", *(f"figure{n}" for n in (*range(1, 11), 13, 14, 15))):
        assert f"bash scripts/{name}.sh" in page.text
    assert "0 of 135 runs" in page.text
    assert "Table 9, Figure 11 and Figure 12 are unknown" in page.text and "figure11.sh" not in page.text


def test_the_page_shows_what_the_tables_files_say(make, tmp_path):
    interval = {"to_none": -3.0, "to_none_low": -4.0, "to_none_high": -2.0, "best_other": "CutMix", "to_best": -1.0}
    rows = [
        row(n=5, mean=20.0, std=0.5, rank=2, paper_mean=22.44, paper_std=0.23, difference=-2.44),
        row(method="mixup", label="Input Mixup", n=3, mean=17.0, rank=1, **interval),
        row(method="cutmix", label="CutMix", wanted=0, paper_mean=18.32, paper_rank=1),
    ]
    write_table(tmp_path, "demo-epochs2", rows, note="not the paper's recipe: epochs 2", remark="A remark.")
    page = make()
    assert "not the paper's recipe: epochs 2. A remark." in page.text
    assert ["No Mixup", "20.00 ± 0.50 (5)", "22.44 ± 0.23", "-2.44"] in page.rows
    assert ["Input Mixup", "17.00 (3 of 5)", "", ""] in page.rows
    assert ["CutMix", "cited", "18.32", ""] in page.rows
    assert ["Input Mixup", "-3.00 [-4.00, -2.00]", "-1.00 (CutMix)"] in page.rows
    best, second = (re.findall(f"<td><{mark}>(.*?)</{mark}>", page.source) for mark in ("strong", "ins"))
    assert best[:2] == ["17.00 (3\xa0of\xa05)", "18.32"] and second[0] == "20.00 ±\xa00.50 (5)"


def test_a_users_tables_come_first_and_those_without_a_result_last_and_folded(make, tmp_path):
    write_table(tmp_path, "table4", [row(n=1, mean=3.0)], name="table4", title="Table 4: x")
    write_table(tmp_path, "demo", [row(n=1, mean=3.0)])
    write_table(tmp_path, "demo-epochs2", [row()], title="Demo: nothing")
    page = make("table3", "table4")
    assert page.titles() == (["Demo: digits", "Table 4: x"], ["Demo: nothing", "Table 3: validation error on ImageNet"])


def test_tables_of_trainings_are_fresh_and_those_of_evaluations_as_they_were_rendered(make, tmp_path):
    finish(of_table3(tmp_path), classes=1000, test_error=22.5, test_top5_error=6.5)
    for name in ("table3", "table4"):
        write_table(tmp_path, f"{name}-epochs2", [row(n=1, mean=1.25)], name=name, title=f"{name} in short")
        write_table(tmp_path, name, [row(n=1, mean=77.0)], name=name, title=f"{name}: x")
    page = make()
    fresh = "Table 3: validation error on ImageNet"
    assert page.titles()[0] == [fresh, "table3 in short", "table4: x", "table4 in short"]
    assert ["Soft PatchUp", "22.50 (1)", "21.06", "+1.44"] in page.rows and page.text.count("77.00") == 1
    assert "1 of 2 runs" in page.text and ["patchup_hard"] not in page.rows


def test_blocks_without_a_result_are_folded(make, tmp_path):
    write_table(tmp_path, "demo", [row(), row(dataset="svhn", label="Of SVHN", n=1, mean=5.0), row(dataset="cifar10")])
    page = make()
    assert "2 more, of which nothing is finished" in page.text
    assert page.text.index("Of SVHN") < page.text.index("2 more")


def test_figures_come_with_caption_and_the_size_of_print(make, tmp_path):
    write_figure(tmp_path, "figure4-corruption", "Errors & more.")
    page = make()
    (picture,) = (attributes for tag, attributes in page.tags if tag == "img")
    assert (picture["width"], picture["height"]) == ("300", "150"), "300 dots an inch are shown as 150"
    assert picture["src"].startswith("data:image/png;base64,") and "Errors & more." in page.text
    assert picture["alt"] == "Figure 4: errors under common corruptions" and "scripts/figure4.sh" not in page.text


def test_runs_of_all_states_are_shown(make, tmp_path):
    finish(files_of(tmp_path, "none"))
    stop(files_of(tmp_path, "mixup"), 150)
    failed = files_of(tmp_path, "cutmix", seed=10)
    failed.failed.write_text("\n".join(["exit status 1", *map(str, range(100)), "train.py: the loss is nan"]))
    finish(files_of(tmp_path, "cutmix", seed=9))
    files_of(tmp_path, "cutout").log.write_text("")
    page = make()
    runs = [[line[0].split(", ")[-2], *line[1:]] for line in page.rows if len(line) == 4 and ", seed" in line[0]]
    assert runs == [
        ["CutMix", "finished 400/400", "50.10", "1.0"],
        ["CutMix", "failed 0/?", "", ""],
        ["Input Mixup", "stopped 150/400", "75.10", "2.5"],
        ["No Mixup", "finished 400/400", "50.10", "1.0"],
    ]
    failure = re.search("<pre>(.*?)</pre>", page.source, re.DOTALL)[1].splitlines()
    assert failure[-1] == "train.py: the loss is nan" and len(failure) == content.LOG_LINES
    assert "2 of 4 runs here are finished" in " ".join(page.text.split())
    for curve in ("validation error (%)", "training loss, sum of terms"):
        assert page.source.count(f'alt="{curve}"') == 1


def test_losses_are_shown_for_each_term_where_all_logs_have_them():
    run = {"method": "none", "lines": [{"val_error": 9.0, "train_loss": 4.0, "train_loss_per_term": 2.0}]}
    before = {"method": "none", "lines": [{"val_error": 9.0, "train_loss": 4.0}]}
    assert [panel["title"] for panel in curves.panels([run])][1] == "training loss per term"
    assert [panel["title"] for panel in curves.panels([run, before])][1] == "training loss, sum of terms"


def test_a_curve_is_a_line_a_run_in_its_methods_colours(drawn):
    lines = [{"val_error": 90.0}, {"val_error": float("nan")}, {"val_error": None}, {"val_error": 70.0}]
    picture = curves.panel([{"method": m, "lines": lines} for m in ("none", "none", "mine")], "val_error")
    drawn_lines = drawn[0].axes[0].lines
    one, same, other = [line.get_color() for line in drawn_lines]
    assert one == same != other and drawn_lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    assert drawn_lines[0].get_markevery() == [0, 3] and not any(drawn[0].axes[0].get_xticks() % 1)
    assert picture["title"] == "validation error (%)"


def test_the_same_files_give_the_same_page_but_for_the_date(make, tmp_path):
    write_table(tmp_path, "demo", [row(n=3, mean=20.5)])
    for name in ("figure4", "figure13"):
        write_figure(tmp_path, name, "A caption.")
    for method in ("mixup", "cutmix", "none"):
        finish(files_of(tmp_path, method))
    first, second = (re.sub(r"Made [^,]*", "", make().source) for _ in range(2))
    assert first == second


# ---- what a page must not do ----


def test_odd_text_cannot_leave_its_place(make, tmp_path):
    write_table(tmp_path, "demo", [row(label=HOSTILE, heading=HOSTILE, method=HOSTILE)], title=HOSTILE, note=HOSTILE)
    write_figure(tmp_path, "figure4-<b>&", HOSTILE)
    stop(files_of(tmp_path, "none", folder="runs-<b>&"), 3).failed.write_text(f"exit status 1\n{HOSTILE}\n")
    odd = tmp_path / "runs/<b>data</b>/<script>/<b>&/seed0.json"
    odd.parent.mkdir(parents=True)
    odd.write_text(json.dumps({"recipe": {HOSTILE: 1}}))
    page = make()
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1 and "b" not in tags
    assert page.text.count(HOSTILE.split("\u2028")[0]) >= 5, "it is shown as it is written"


def test_nothing_is_loaded_from_elsewhere(make, tmp_path):
    write_figure(tmp_path, "figure1", "A caption.")
    finish(files_of(tmp_path, "none"))
    page = make()
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            value = attributes.get(name, "data:")
            assert value.startswith(("data:", "#")) or (tag == "a" and value.startswith("https://arxiv.org/"))
    assert [call for call in ("url(", "@import", "fetch(", "import(") if call in page.source] == []
    assert "default-src 'none'" in next(a["content"] for _, a in page.tags if "http-equiv" in a)


# ---- a page is made whatever there is ----


def result(text):
    return lambda out: of_table3(out).result.write_text(text)


def log(text):
    return lambda out: stop(files_of(out, "none"), 2).log.write_text(text)


def table(text):
    return lambda out: (out / "tables/odd.json").write_text(text)


def copy_run(out):
    folder = stop(files_of(out, "none"), 1).stem.parent
    shutil.copytree(folder, folder.with_name("mixup"))


def name_unknown_method(out):
    folder = stop(files_of(out, "none"), 1).stem.parent
    folder.rename(folder.with_name("magic"))


DAMAGES = {  # {what the page says: what is done to a folder}
    "seed0.json is not a result of train.py (Expecting property name": result("{"),
    "seed0.json is not a result of train.py (": result("[1]"),
    "seed0.json is not a result of train.py (no recipe)": result("{}"),
    "seed0.json is not a result of train.py (test_error is 'low')": lambda out: finish(
        of_table3(out), classes=1000, test_error="low"
    ),
    "seed0.json is not a result of train.py (no classes)": lambda out: finish(of_table3(out), test_error=3.0),
    "seed0 has another recipe than its tables (epochs 8 there, 300 here": lambda out: stop(of_table3(out, epochs=8), 3),
    "mixup/seed0 holds the run digits/preactresnet18/none/seed0": copy_run,
    "magic": name_unknown_method,
    "seed0.checkpoint.pt is damaged or no checkpoint": lambda out: of_table3(out).checkpoint.write_bytes(b"PK"),
    "seed0.jsonl is no log of train.py": log("[1]\n[2]\n"),
    "seed0.jsonl is no log of train.py (no val_error)": log('{"epoch": 0}\n'),
    "odd.json is not a result of scripts/tables.py": table("{"),
    "odd.json cannot be shown: KeyError": table('{"rows": []}'),
    "odd.json cannot be shown: ValueError": table(json.dumps({"rows": [row(mean="much", n=1)]})),
    "odd.png is no PNG": lambda out: (out / "figures/odd.png").write_text("GIF89a"),
    "folder.png cannot be shown: IsADirectoryError": lambda out: (out / "figures/folder.png").mkdir(),
}


@pytest.mark.parametrize("words", DAMAGES)
def test_a_page_names_what_it_cannot_show_and_shows_the_rest(make, tmp_path, words):
    write_table(tmp_path, "demo", [row(n=1, mean=20.0)])
    write_figure(tmp_path, "odd", "")
    DAMAGES[words](tmp_path)
    page = make()
    assert words in page.text and ["No Mixup", "20.00 (1 of 5)"] in page.rows
    assert "0 of 2 runs" in page.text, "it is not counted"


def test_a_table_without_a_run_of_another_recipe_counts_the_others(make, tmp_path):
    finish(of_table3(tmp_path), classes=1000, test_error=22.5, test_top5_error=6.5)
    finish(of_table3(tmp_path, "patchup_hard", epochs=8), classes=1000, test_error=3.0)
    page = make()
    assert ["Soft PatchUp", "22.50 (1)", "21.06", "+1.44"] in page.rows
    assert any(line[:2] == ["Hard PatchUp", "missing"] for line in page.rows)
    assert page.text.count("seed0 has another recipe than its tables (epochs 8 there, 300 here") == 1
    assert ["ImageNet, ResNet50, Hard PatchUp, seed0 runs", "finished 8/8: not counted", "50.10", "1.0"] in page.rows


# ---- in a browser ----


PROBE = """
<pre id="probe"></pre><script>
const shown = (items) => items.filter((item) => item.offsetParent);
const methods = () => shown(all("#probed tbody tr")).map((line) => line.cells[0].textContent);
const head = document.querySelector(".panel thead th:nth-child(2)");
head.closest("table").id = "probed";
const seen = { asWritten: methods() };
head.firstElementChild.click();
Object.assign(seen, { sorted: methods(), direction: head.getAttribute("aria-sort") });
head.firstElementChild.click();
seen.turned = methods();
const type = (text) => {
  const box = document.getElementById("filter");
  box.value = text;
  box.dispatchEvent(new Event("input"));
};
type("mixup TEST");
seen.filtered = methods();
type("cifar-10");
seen.tables = shown(all(".table")).length;
type("");
seen.cleared = methods().length;
document.getElementById("probe").textContent = JSON.stringify(seen);
</script>"""

NARROW = """<iframe id="page" style="width:360px;height:740px;border:0" srcdoc="{page}"></iframe><pre id="probe"></pre>
<script>
addEventListener("load", () => {{
  const page = document.getElementById("page").contentDocument;
  const cells = [...page.querySelectorAll("details[open] th, details[open] td, main > table th, main > table td")];
  document.getElementById("probe").textContent = JSON.stringify({{
    room: page.documentElement.clientWidth, page: page.documentElement.scrollWidth,
    right: Math.max(...cells.map((cell) => cell.getBoundingClientRect().right)) }});
}});
</script>"""


def browse(path, text):
    """What the script in a page, written to path, leaves in #probe as JSON."""
    path.write_text(text)
    profile = f"--user-data-dir={path.parent / 'profile'}"  # so that a browser which runs is left alone
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", profile, path.as_uri()]
    browser = subprocess.run(command, capture_output=True, text=True, timeout=120)
    probe = re.search(r'<pre id="probe">(.*?)</pre>', browser.stdout, re.DOTALL)
    assert probe and probe[1], f"the page's script ended early: {browser.stderr[-2000:]}"
    return json.loads(html.unescape(probe[1]))


@pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on PATH")
def test_the_page_in_a_browser(make, tmp_path):
    large = {"mean": 107.0, "std": 10.25, "paper_mean": 22.44, "difference": 84.56}
    rows = [
        row(n=3, mean=20.0, std=0.5, paper_mean=22.44, paper_std=0.23, difference=-2.44),
        row(method="manifold_mixup", label="ManifoldMixup", n=3, **large),
        row(method="cutout", label="Cutout"),
        row(method="cutmix", label="CutMix", wanted=0, paper_mean=18.32),
        row(method="dropblock", label="DropBlock", n=5, mean=-1.0),
    ]
    write_table(tmp_path, "demo", rows)
    finish(files_of(tmp_path, "none"))
    page = make().source
    seen = browse(tmp_path / "probe.html", page.replace("</body>", f"{PROBE}</body>"))
    assert seen["asWritten"] == ["No Mixup", "ManifoldMixup", "Cutout", "CutMix", "DropBlock"]
    assert seen["sorted"] == ["DropBlock", "No Mixup", "ManifoldMixup", "CutMix", "Cutout"], "by numbers; missing last"
    assert seen["direction"] == "ascending"
    assert seen["turned"] == ["ManifoldMixup", "No Mixup", "DropBlock", "Cutout", "CutMix"]
    assert seen["filtered"] == ["ManifoldMixup", "No Mixup"] and seen["tables"] == 0 and seen["cleared"] == 5
    narrow = browse(tmp_path / "narrow.html", NARROW.format(page=html.escape(page)))
    assert 300 < narrow["room"] <= 360 and narrow["page"] == narrow["room"], "the page does not scroll sideways"
    assert narrow["right"] <= narrow["room"], "no column is cut off"
