from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from tests.tools.reproduce.made_results import DICE, HOSTILE, classifier_results, cost_results, made_results, with_score
from tools.reproduce.report import write_report
from tools.reproduce.report.words import MINUS
from tools.reproduce.results import Job, Metric, Model, Published, Results, Score, State

FILES = ["comparisons.csv", "index.html", "scores.csv", "table.csv", "table.md"]
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """A page's text, tables and addresses; open elements have to be closed in their order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.cells: list[list[str]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1] += data

    def row(self, name: str) -> list[str]:
        """The first row whose first cell begins so, with single spaces."""
        return next([" ".join(cell.split()) for cell in row] for row in self.cells if row[0].strip().startswith(name))


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[tuple[Results, Path]]:
    folder = tmp_path_factory.mktemp("made")
    results = made_results(folder / "runs")
    write_report(results, folder / "report")
    yield results, folder / "report"


@pytest.fixture(scope="module")
def page(made) -> Page:
    return Page(made[1] / "index.html")


def test_the_files(made):
    assert sorted(path.name for path in made[1].iterdir()) == FILES


def test_the_page_needs_nothing_but_itself(page, made):
    assert page.addresses and all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    text = re.sub(r'"data:[^"]*"', "", (made[1] / "index.html").read_text(encoding="utf-8"))
    assert "://" not in text and "url(" not in text and "@import" not in text


def test_names_from_outside_are_text(page, made):
    assert HOSTILE in page.text and "error: CASE|1: <b>cannot be read</b>; look at it" in page.text
    assert "b" in page.tags and "<b>cannot" not in (made[1] / "index.html").read_text(encoding="utf-8")
    document = (made[1] / "table.md").read_text(encoding="utf-8")
    assert r"\<script\>alert(1)\</script\> a\|b \*c\* \`d\`" in document
    outside_of_code = "\n".join(line for line in document.splitlines() if "    " not in line[:6])
    assert not re.search(r"(?<!\\)<", outside_of_code)


def test_every_table_of_the_document_has_its_columns(made):
    lines = (made[1] / "table.md").read_text(encoding="utf-8").splitlines()
    columns = [len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0 for line in lines]
    assert sum(before == 0 < after for before, after in pairwise(columns)) == 8
    assert all(before in (0, after) or after == 0 for before, after in pairwise(columns))


def test_the_paper_s_figure_beside_ours(page, made):
    table = {(row["model"], row["metric"]): row for row in rows(made[1] / "table.csv")}
    dice = [
        score.value for score in made[0].scores if (score.model, score.metric, score.structure) == ("unet", "dice", "")
    ]
    ours = table["unet", "dice"]
    mean = sum(dice) / 20
    assert float(ours["ours"]) == pytest.approx(mean) and float(ours["difference"]) == pytest.approx(mean - 0.8121)
    assert (ours["cases"], ours["subjects"], ours["best"], ours["state"]) == ("20", "10", "0", "done")
    assert table["safnet", "dice"]["best"] == "1" and table["safnet", "hd95"]["best"] == "1"
    cells = page.row("3D U-Net")
    interval = f"95 % CI {float(ours['low']):.3f} to {float(ours['high']):.3f}"
    assert cells[1] == "0.8121 ± 0.041Table 2"
    assert cells[2] == f"{mean:.3f} ± {float(ours['sd']):.3f}{interval}20 cases, 10 subjects"
    assert cells[3] == f"{mean - 0.8121:+.3f}".replace("-", MINUS)
    assert cells[4] == cells[6] == "none published"
    assert re.match(r"0\.\d{3} ± 0\.\d{3} best95 % CI", page.row("SAFNet")[2])


def test_what_is_not_done_says_so(page, made):
    partial = page.row("DynUNet")
    assert partial[0] == "DynUNet, nnU-Net-likeunfinished (2 of 5 folds)"
    assert partial[2].endswith("no interval: fewer than 5 subjects8 cases, 4 subjectspartial: 2 of 5 folds")
    assert partial[5] == "not measured"
    assert "best" not in partial[2]  # though its mean is the highest, of easier folds perhaps
    failed = "failed (1 of 5 folds failed, 0 done)"
    assert page.row("CFNet") == [
        f"CFNet{failed}",
        "none published",
        failed,
        *["none published"] * 2,
        failed,
        "none published",
    ]
    assert page.row("<script>")[2] == "unfinished (0 of 5 folds)"
    table = {(row["model"], row["metric"]): row for row in rows(made[1] / "table.csv")}
    assert table["cfnet", "dice"]["missing"] == failed and table["dynunet", "hd95"]["missing"] == "not measured"
    for text in (page.text, (made[1] / "table.md").read_text(encoding="utf-8")):
        assert "24 of 50 jobs done, 1 failed and 25 unfinished." in text


def test_no_cell_is_empty(page):
    empty = [row for row in page.cells for cell in row if not cell.strip()]
    assert empty == [page.cells[0]]  # above the column of models, in the first row of the main table's head


def test_by_fold_and_by_structure(page):
    folds = next(row for row in page.cells if row[0].strip().startswith("CFNet") and len(row) == 6)
    assert [cell.strip() for cell in folds[1:]] == ["unfinished", "failed", *["unfinished"] * 3]
    assert re.fullmatch(r"0\.\d{3} ± 0\.\d{3} \(20\)", page.row("L4/L5")[1])
    assert page.row("L4/L5")[3].endswith("(8)partial") and page.row("L4/L5")[4:] == ["failed", "unfinished"]
    assert "No model has a score of T9." in page.text


def test_the_paper_s_figures_of_folds_stand_beside_ours(tmp_path):
    """Where the fold was run, and where the paper has one."""
    published = {"dice": {0: Published(0.7946, "± 0.0463", "section 3"), 2: Published(0.8, "", "section 3")}}
    models = (Model("a", "A", published_folds=published), Model("b", "B"))
    scores = [Score(model, fold, f"c{fold}", "", "dice", 0.8) for model in "ab" for fold in (0, 1)]
    jobs = [
        Job(f"a/{fold}", "a", fold, "evaluate", State.FAILED if fold == 2 else State.DONE, "c") for fold in range(3)
    ]
    results = Results("t", "T", "P", "command", models, (DICE,), scores, jobs=jobs, fold_note="It counts from 1.")
    write_report(results, tmp_path)
    page = Page(tmp_path / "index.html")
    folds = [
        " ".join(cell.split())
        for cell in next(row for row in page.cells if row[0].startswith("A") and len(row) == 4 and "(1)" in row[1])
    ]
    assert folds[1:] == [
        f"0.800 (one case, no SD) (1)paper 0.7946 ± 0.0463ours {MINUS} paper +0.005",
        "0.800 (one case, no SD) (1)",
        "failed",
    ]
    note = "Mean ± standard deviation over the cases (number of cases). Paper: A, section 3. It counts from 1."
    assert note in page.text and note in (tmp_path / "table.md").read_text(encoding="utf-8")
    line = next(line for line in (tmp_path / "table.md").read_text(encoding="utf-8").splitlines() if "0.7946" in line)
    cell = f"0.800 (one case, no SD) (1); paper 0.7946 ± 0.0463; ours {MINUS} paper +0.005"
    assert line.startswith(f"| A; failed (1 of 3 folds failed, 2 done) | {cell} |")


def test_models_compared(page, made):
    first, *few = (row for row in rows(made[1] / "comparisons.csv") if row["metric"] == "dice")
    assert (first["first"], first["second"], first["cases"]) == ("unet", "safnet", "20")
    assert float(first["p"]) == pytest.approx(2 / 2001) == pytest.approx(float(first["p_holm"]))
    assert [(row["low"], row["p"], row["untested"]) for row in few] == [("", "", "fewer than 5 subjects")] * 2
    compared = next(row for row in page.cells if len(row) == 7 and row[0] == "SAFNet" and row[1] == "3D U-Net")
    assert compared[2].strip() == "20 (10)" and [cell.strip() for cell in compared[5:]] == ["0.001", "0.001"]
    assert "Not compared, as there are no scores: CFNet" in page.text


def test_plots_and_pictures(page):
    assert "median" in page.text and "fold 2 (unfinished)" in page.text and "fold 1: no history (failed)" in page.text
    assert page.tags.count("img") == 3 and page.text.count("no picture was made") == 6
    assert page.tags.count("polyline") == 2 * (5 + 5 + 5 + 4)  # loss and metric of each training with a history


def test_how_weights_were_chosen_and_the_split(page):
    chosen = [row for row in page.cells if len(row) == 3 and row[0] == "SAFNet"]
    assert chosen == [["SAFNet", "0, 1, 2, 3, 4", "best mean Dice of the validation part (epoch 9 of 12)"]]
    assert ["0", "12", "4", "4"] in page.cells and "Never tested: 1 case" in page.text
    assert "SHA-256 " + "cd" * 32 in page.text


def test_scores_are_kept_to_the_last_digit(made):
    kept = rows(made[1] / "scores.csv")
    assert [float(row["value"]) for row in kept] == [score.value for score in made[0].scores]
    assert list(kept[0]) == ["model", "fold", "case", "subject", "structure", "metric", "value", "truth"]


def test_the_same_every_time(made, tmp_path):
    write_report(made[0], tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (made[1] / name).read_bytes()


def test_figures_that_are_not_of_cases(tmp_path):
    write_report(cost_results(), tmp_path)
    page = Page(tmp_path / "index.html")
    assert page.row("Big") == [
        "Big", "25.30", "25.31counted exactly", "+0.01", "12.311.0 to 15.5median of 5 repeats",
    ]  # fmt: skip
    assert page.cells[0][2] == "Latency (ms), lower is better; none published of these"
    assert page.row("Small")[2].startswith("3.50counted") and page.row("Small")[4].startswith("2.5 best")
    assert page.row("Lost")[2] == page.row("Lost")[4] == "failed"
    assert "By fold" not in page.text and "Models compared" not in page.text
    assert (tmp_path / "comparisons.csv").read_text(encoding="utf-8").count("\n") == 1


def test_none_is_the_best_where_all_are_equal(tmp_path):
    results = classifier_results()
    equal = [replace(score, value=score.truth) for score in results.scores]
    write_report(replace(results, scores=equal), tmp_path)
    assert [row["best"] for row in rows(tmp_path / "table.csv")] == ["0", "0"]
    assert "(best)" not in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_auroc(tmp_path):
    write_report(classifier_results(), tmp_path)
    page, table = Page(tmp_path / "index.html"), rows(tmp_path / "table.csv")
    assert page.row("A")[1].startswith("1.000 best95 % CI 1.000 to 1.000") and "±" not in page.row("B")[1]
    assert [row["sd"] for row in table] == ["", ""] and table[0]["cases"] == "12"
    assert "case as a whole, truth 1" in page.text and "how far the score is from the truth" in page.text


def test_auroc_of_one_class(tmp_path):
    write_report(classifier_results(positives=0), tmp_path)
    page = Page(tmp_path / "index.html")
    assert page.row("A")[1] == "undefined: one class only6 cases, 6 subjects"
    assert rows(tmp_path / "table.csv")[0]["missing"] == "undefined: one class only"
    assert rows(tmp_path / "comparisons.csv")[0]["untested"] == "undefined: one class only"


def test_the_maximum_of_a_mean_curve(tmp_path):
    """It has an interval and no spread, and its cases' own maxima stand nowhere."""
    metric = Metric("maxDice", "maxDice of the set", statistic="maximum")
    curves = dict(zip("abcde", np.eye(5) / 2 + 0.25, strict=True))
    scores = [Score("m", None, name, name, "maxDice", 0.75, curve=curve) for name, curve in curves.items()]
    scores += [Score("m", None, name, name, "dice", 0.5) for name in curves]
    write_report(Results("t", "T", "P", "command", (Model("m", "M"),), (DICE, metric), scores), tmp_path)
    page = Page(tmp_path / "index.html")
    assert page.row("M")[2] == "0.35095 % CI 0.350 to 0.6505 cases, 5 subjects"
    assert "maxDice of the set: the greatest value of the cases' mean curve over the thresholds" in page.text
    assert page.text.count("case as a whole") == 1  # box plots of Dice alone
    assert {row["metric"] for row in rows(tmp_path / "scores.csv")} == {"dice"}


def test_an_average_precision_of_all_pixels(tmp_path):
    """It has an interval and no spread; the order of the pixels is right in all cases but one."""
    metric = Metric("AUPRC", "AUPRC of pixels", statistic="average_precision")
    curves = {name: np.array([0, 1, 1, 0] if name == "e" else [1, 0, 0, 1]) for name in "abcde"}
    scores = [Score("m", None, name, name, "AUPRC", 1.0, curve=curve) for name, curve in curves.items()]
    write_report(Results("t", "T", "P", "command", (Model("m", "M"),), (metric,), scores), tmp_path)
    page = Page(tmp_path / "index.html")
    # Of the five inside, four stand above with one outside: 4/5 of the recall at 4/5, the rest at 5/10.
    assert page.row("M")[1].startswith("0.74095 % CI 0.460 to 1.000") and "±" not in page.row("M")[1]
    assert "AUPRC is of all cases' pixels together" in page.text


def test_one_case(tmp_path):
    results = Results("t", "T", "P", "command", (Model("a", "A"),), (DICE,), (Score("a", None, "c", "", "dice", 0.5),))
    write_report(results, tmp_path)
    page = Page(tmp_path / "index.html")
    assert page.row("A")[1] == "0.500 (one case, no SD)no interval: fewer than 5 subjects1 case, 1 subject"
    assert "only case: c" in page.text and "What this run cannot show" not in page.text and "nan" not in page.text


def test_nothing_done_yet(tmp_path):
    job = Job("a/train", "a", None, "train", State.UNFINISHED, "train a")
    write_report(Results("t", "T", "P", "command", (Model("a", "A"),), (DICE,), jobs=(job,)), tmp_path)
    page = Page(tmp_path / "index.html")
    assert page.row("A")[1] == "unfinished" and "0 of 1 job done, 1 unfinished." in page.text


def test_files_that_cannot_be_read_are_named(tmp_path):
    lost, broken = tmp_path / "lost.csv", tmp_path / "broken.png"
    broken.write_text("no picture", encoding="utf-8")
    jobs = (
        Job("a/train", "a", None, "train", State.DONE, "train", history=lost),
        Job("a/evaluate", "a", None, "evaluate", State.DONE, "evaluate"),
    )
    score = Score("a", None, "c", "", "dice", 0.5)
    write_report(
        Results(
            "t",
            "T",
            "P",
            "command",
            (Model("a", "A"),),
            (DICE,),
            (score,),
            jobs=jobs,
            pictures={("a", None, "c"): broken},
        ),
        tmp_path / "r",
    )
    page = Page(tmp_path / "r/index.html")
    assert "lost.csv cannot be read (No such file or directory)" in page.text
    assert "broken.png cannot be read as a picture" in page.text


def test_text_that_no_file_can_hold(tmp_path):
    results = made_results(tmp_path / "runs")
    odd = with_score(replace(results, title="a\x00b\udcff\nc"), case="x\udcff", subject="S\x1b")
    write_report(odd, tmp_path / "r")
    assert (tmp_path / "r/table.md").read_text(encoding="utf-8").startswith("# a\ufffdb\ufffd c\n")
    assert rows(tmp_path / "r/scores.csv")[0]["case"] == "x\ufffd"


def test_a_refused_table_leaves_what_is_there(made, tmp_path):
    write_report(made[0], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="no finite number"):
        write_report(with_score(made[0], value=float("nan")), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_written(made, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(made[0], tmp_path / "file")
