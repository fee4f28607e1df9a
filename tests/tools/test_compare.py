from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tools import compare

CASES = {"a": "A", "b": "B", "c": "C", "d": "C", "e": "E", "f": "F", "g": "G"}


def evaluation(folder: Path, l5: dict[str, float | str], discs: dict[str, float | str] | None = None) -> Path:
    """An evaluation's tables: L5 of each case, and the mean over its discs where it has any."""
    folder.mkdir(exist_ok=True)
    discs = discs or {}
    cases = [
        {"case": case, "subject": CASES[case], "dice": dice, "vertebrae": dice, "discs": discs.get(case, "")}
        for case, dice in l5.items()
    ]
    structures = [{"case": case, "structure": "L5", "dice": dice} for case, dice in l5.items()]
    for name, rows in (("cases.csv", cases), ("dice.csv", structures)):
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def test_differences_of_what_both_have_scored(tmp_path):
    l5 = {"a": 0.5, "b": 0.6, "c": 0.7, "e": 0.6, "f": 0.6}
    first = evaluation(tmp_path / "1", {**l5, "d": ""}, {"a": 0.2, "b": 0.4})
    second = evaluation(tmp_path / "2", {**dict.fromkeys(l5, 0.7), "d": 0.9}, {"a": 0.1, "c": 0.3})
    rows = {row["structure"]: row for row in compare.compare(first, second)}
    assert list(rows) == ["mean of a case", "its vertebrae", "its discs", "L5"]
    l5 = rows["L5"]
    assert (l5["cases"], l5["subjects"]) == (5, 5)
    assert (l5["first"], l5["second"], l5["difference"]) == pytest.approx((0.6, 0.7, 0.1))
    assert l5["difference_sd"] == pytest.approx(0.005**0.5) and l5["second_sd"] == pytest.approx(0)
    assert l5["low"] == pytest.approx(0.04) and l5["high"] == pytest.approx(0.16) and l5["p"] < 0.01
    discs = rows["its discs"]
    assert discs["cases"] == 1 and discs["difference"] == pytest.approx(-0.1) and np.isnan(discs["difference_sd"])
    assert discs["low"] is discs["high"] is discs["p"] is None


def test_subjects_are_drawn_whole(tmp_path):
    """With the two scans of subject C drawn together, the interval is wider than with scans for themselves."""
    scores = {"a": 0.2, "b": 0.2, "c": 0.8, "d": 0.8, "e": 0.2, "f": 0.2}
    widths = []
    for second in ("d", "g"):
        renamed = {second if case == "d" else case: dice for case, dice in scores.items()}
        zeros = evaluation(tmp_path / f"0{second}", dict.fromkeys(renamed, 0.0))
        rows = compare.compare(zeros, evaluation(tmp_path / f"1{second}", renamed))
        row = next(row for row in rows if row["structure"] == "L5")
        assert (row["cases"], row["subjects"]) == (6, 5 if second == "d" else 6)
        widths.append(row["high"] - row["low"])
    assert widths[0] > widths[1] > 0


def test_the_command(tmp_path, capsys):
    first = evaluation(tmp_path / "1", {"a": 0.5, "b": 0.6})
    second = evaluation(tmp_path / "2", {"a": 0.25, "b": 0.5})
    outputs = [str(tmp_path / f"difference.{kind}") for kind in ("csv", "md")]
    assert compare.main([str(first), str(second), "--output", *outputs]) == 0
    printed = capsys.readouterr().out
    assert Path(outputs[1]).read_text(encoding="utf-8") == printed
    assert "| L5 | 2 (2) | 0.550 ± 0.071 | 0.375 ± 0.177 | -0.175 ± 0.106 |  |  |" in printed
    with open(outputs[0], newline="", encoding="utf-8") as file:
        assert [row["structure"] for row in csv.DictReader(file)] == ["mean of a case", "its vertebrae", "L5"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{one}", "{none}"], "{none}/cases.csv: cannot be read (No such file or directory); pass a folder that"),
        (["{one}", "{other}"], "{other}: is not an evaluation of the same cases as {one} (b); evaluate both"),
        (["{one}", "{one}", "--output", "x.xls"], "x.xls: is no known format; let the name end in .csv or .md"),
        (["{one}"], "the following arguments are required: second; see --help"),
    ],
)
def test_bad_arguments_are_one_line(arguments, says, tmp_path, capsys):
    places = {"one": tmp_path / "1", "other": tmp_path / "2", "none": tmp_path / "3"}
    evaluation(places["one"], {"a": 0.5, "b": 0.6})
    evaluation(places["other"], {"a": 0.5, "c": 0.6})
    try:
        status = compare.main([word.format(**places) for word in arguments])
    except SystemExit as ended:
        status = ended.code
    out, err = capsys.readouterr()
    assert status == 1 and out == "" and len(err.splitlines()) == 1
    assert err.startswith("error: " + says.format(**places))
