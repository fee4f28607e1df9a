"""A table of each family from its command to its report, on phantoms."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tools.reproduce.__main__ import main
from tools.reproduce.tables import TABLES

# The table, rows that stand for all, and how many runs they need.
QUICK = [
    ("safnet-ablation", "base,all", 4),
    ("safnet-augmentation", "plain,mirror", 4),
    ("sshsnet-comparison", "tri_50,supervised_50", 5),
    ("funet-ablation", "ifa", 3),
    ("bess-classifiers", "resnet18", 2),
    ("bess-two-stage", "", 2),
    ("bess-cost", "resnet18", 1),
]


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("name", "models", "runs"), QUICK)
def test_from_the_command_to_the_report(name, models, runs, tmp_path, capsys):
    table, output = TABLES[name], tmp_path / "out"
    words = [name, "--quick", "--models", models, "--output", str(output)]
    assert main(words) == 0, capsys.readouterr().out
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == f"{runs} of {runs} runs are done; the report is {output / 'report' / 'index.html'}"
    assert "error" not in err
    keys = models.split(",") if models else [row.model.key for row in table.rows]
    report = {path.name for path in (output / "report").iterdir()}
    assert {"index.html", "table.md", "table.csv", "scores.csv", "comparisons.csv"} <= report
    text = (output / "report" / "table.md").read_text(encoding="utf-8")
    for row in table.rows:
        title = row.model.title.replace("*", "\\*")  # as Markdown has it
        assert (row.model.key in keys) == (f"| {title} |" in text)
    if table.data:
        assert {row["model"] for row in rows_of(output / "report" / "scores.csv")} == set(keys)
        splits = json.loads((output / "splits.json").read_text(encoding="utf-8"))
        assert splits["sha256"] in text and splits["list_sha256"] in text
        page = (output / "report" / "index.html").read_text(encoding="utf-8")
        assert page.count('src="data:image/jpeg;base64,') == page.count('<figure class="panel"><figcaption><b>') > 0

    before = {path: path.stat().st_mtime_ns for path in output.rglob("job.json")}
    assert len(before) == runs
    assert main(words) == 1
    assert "holds runs of this table; pass --resume to go on with them, or another --output" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("job.json")} == before
