from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.tools.reproduce.made_results import DICE, HD95, HOSTILE, cost_results, made_results
from tools.reproduce.report.analysis import Analysis
from tools.reproduce.report.box_plots import box_plots
from tools.reproduce.report.curves import Curve, curve_plot, read_history
from tools.reproduce.report.learning import learning_curves
from tools.reproduce.report.svg import Scale, dash, text
from tools.reproduce.results import Job, Model, Results, Score, State

JOB = Job("j", "a", 0, "train", State.DONE, "train")


def few(*values: float) -> Results:
    scores = tuple(Score("a", None, str(at), "", "dice", value) for at, value in enumerate(values))
    return Results("t", "T", "P", "command", (Model("a", HOSTILE),), (DICE,), scores)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((0.62, 0.97), ["0.6", "0.7", "0.8", "0.9", "1.0"]),
        ((0, 40), ["0", "10", "20", "30", "40"]),
        ((0.5, 0.5), ["0.45", "0.50", "0.55"]),
        ((0, 0), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        ((0, 2e6), ["0", "5e+05", "1e+06", "1.5e+06", "2e+06"]),
    ],
)
def test_ticks_are_round_and_leave_room(values, ticks):
    scale = Scale(values, 10, 110)
    assert [scale.label(tick) for tick in scale.ticks] == ticks
    assert all(10 <= scale(value) <= 110 for value in values)
    assert (scale(scale.ticks[0]), scale(scale.ticks[-1])) == pytest.approx((10, 110))


def test_an_axis_may_point_up():
    scale = Scale((0, 1), 100, 0)
    assert (scale(0), scale(0.25), scale(1)) == pytest.approx((100, 75, 0))


def test_long_names_are_cut_and_whole_in_the_tooltip():
    long = ElementTree.fromstring(text(0, 0, "<" * 9, most=5))
    assert long.text == "<<<<…" and long.find("title").text == "<" * 9


def test_dashes_differ_where_colours_begin_again():
    assert len({dash(number) for number in (0, 5, 10)}) == 3 and dash(0) == dash(4)


def test_a_box_is_where_the_quartiles_are():
    values = [0.0, 0.1, 0.2, 0.3, 0.4, *[0.2] * 10, 1.0]
    ((title, drawing),) = box_plots(Analysis(few(*values)), DICE)
    svg = ElementTree.fromstring(drawing)
    place = Scale((0, 1), 10, 330)
    (box,) = svg.iter("rect")
    assert title == "case as a whole" and float(box.get("x")) == pytest.approx(place(0.2), abs=0.05)
    points = [float(point.get("cx")) for point in svg.iter("circle")]
    assert points == pytest.approx([place(value) for value in (0, 0.1, 0.3, 0.4, 1)], abs=0.5)  # beyond the whiskers
    words = [element.text for element in svg.iter("text")]
    assert words[:2] == [f"{HOSTILE[:29]}…", "median 0.200 · 16 cases"]


def test_few_cases_are_all_drawn_and_two_have_no_box():
    ((_, drawing),) = box_plots(Analysis(few(0.2, 0.8)), DICE)
    assert drawing.count("<circle") == 2 and "<rect" not in drawing
    ((_, drawing),) = box_plots(Analysis(few(*[at / 10 for at in range(10)])), DICE)
    assert drawing.count("<circle") == 10 and drawing.count("<rect") == 1


def test_a_panel_for_each_structure_that_has_scores(tmp_path):
    results = made_results(tmp_path)
    panels = dict(box_plots(Analysis(results), HD95))
    assert list(panels) == ["case as a whole", "L5", "L4/L5", "S"]
    assert all(ElementTree.fromstring(panel).tag == "svg" for panel in panels.values())
    assert "DynUNet" not in panels["S"] and "SAFNet" in panels["S"]
    assert box_plots(Analysis(cost_results()), cost_results().metrics[0]) == []


def history(folder: Path, content: str):
    path = folder / "history.csv"
    path.write_text(content, encoding="utf-8")
    return read_history(JOB, path)


def test_a_history_with_gaps(tmp_path):
    found = history(tmp_path, "epoch,loss,lr,val_loss,val_mean_dice\n1,0.5,0.1,,\n2,nan,0.1,0.4,0.7\n3,0.3,x,0.3,0.8\n")
    assert found.columns["loss"] == ([1, 3], [0.5, 0.3]) and found.columns["val_mean_dice"] == ([2, 3], [0.7, 0.8])
    assert found.validation == "val_mean_dice" and not found.problem


def test_a_history_of_which_nothing_can_be_drawn(tmp_path):
    assert history(tmp_path, "epoch,lr\n1,0.1\n").problem == "history.csv has no losses"
    assert history(tmp_path, "").problem == "history.csv has no losses"
    (tmp_path / "history.csv").write_bytes(b"epoch,loss\n\xff,\xff\n")
    assert "cannot be read" in read_history(JOB, tmp_path / "history.csv").problem
    assert history(tmp_path, "epoch,loss,val_loss\n1,1,1\n").validation == "val_loss"
    assert history(tmp_path, "epoch,loss\n1,1\n").validation == ""


def test_a_long_line_keeps_its_end():
    epochs = list(range(1, 2002))
    plot = curve_plot("loss", [Curve(0, epochs, epochs)], [0, 2001], 2001)
    points = re.search(r'points="([^"]*)"', plot)[1].split()
    assert 300 < len(points) <= 400
    across, up = Scale((0, 2001), 38, 254), Scale((0, 2001), 144, 26)
    assert points[-1] == f"{across(2001):.1f},{up(2001):.1f}"


def test_one_epoch_is_a_point():
    assert "<circle" in curve_plot("loss", [Curve(0, [1], [0.5])], [0.5], 1)


def test_learning_curves_name_their_folds_and_what_is_missing(tmp_path):
    results = made_results(tmp_path)
    curves = {one.title: one for one in learning_curves(Analysis(results))}
    assert [name for name, _, _ in curves["DynUNet, nnU-Net-like"].lines] == [
        "fold 0", "fold 1", "fold 2 (unfinished)", "fold 3 (unfinished)", "fold 4 (unfinished)",
    ]  # fmt: skip
    assert len(curves["SAFNet"].plots) == 2 and curves["SAFNet"].problems == ()
    assert curves[HOSTILE].plots == () == curves[HOSTILE].lines
    assert curves[HOSTILE].problems == ("fold 0, fold 1, fold 2, fold 3, fold 4: no history (unfinished)",)


def test_trainings_of_one_fold_are_told_apart_by_their_keys(tmp_path):
    stages = tuple(replace(JOB, key=key, history=tmp_path / "history.csv") for key in ("a/stage_1", "a/stage_2"))
    history(tmp_path, "epoch,loss\n1,1\n2,0.5\n")
    (found,) = learning_curves(Analysis(replace(few(0.5), jobs=stages)))
    assert [name for name, _, _ in found.lines] == ["a/stage_1", "a/stage_2"] and len(found.plots) == 1
