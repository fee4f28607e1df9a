from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import InputError
from tools.bundle_process import shown
from tools.reproduce.plan import Options, plan_jobs
from tools.reproduce.tables import TABLES

BUNDLES = Path("bundles")


def options(**given: object) -> Options:
    return Options(**{"output": Path("out"), "bundles": BUNDLES, "dataset_dir": Path("DATA"), **given})


def words_of(job, name: str) -> str | None:
    words = list(job.words)
    return words[words.index(f"--{name}") + 1] if f"--{name}" in words else None


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("quick", [False, True])
def test_every_table_can_be_planned(name, quick):
    """All ids exist, each run stands behind those that it needs, and nothing else is needed."""
    table = TABLES[name]
    jobs = plan_jobs(table, options(quick=quick, dataset_dir=None if quick else Path("DATA")))
    seen: set[str] = set()
    for key, job in jobs.items():
        assert set(job.needs) <= seen
        seen.add(key)
        if not job.step.program:
            assert words_of(job, "output_dir") == str(job.folder)
    rows = {job.row.model.key for job in jobs.values()}
    wanted = set(table.quick_rows) if quick and table.quick_rows else {row.model.key for row in table.rows if row.steps}
    assert wanted <= rows
    assert len({row.model.key for row in table.rows}) == len(table.rows)
    assert all(set(row.model.published) <= {metric.key for metric in table.metrics} for row in table.rows)


def test_what_a_run_is_told():
    jobs = plan_jobs(TABLES["safnet-comparison"], options(folds=[2], models=["unet"], max_epochs=3, seed=7))
    train, evaluate = jobs["unet/fold_2/train"], jobs["unet/fold_2/evaluate"]
    assert shown(train.words) == (
        "python -m monai.bundle run --config_file \"['bundles/safnet/configs/train.json',"
        "'bundles/safnet/configs/unet.json']\" --dataset_dir DATA --fold 2 --seed 7"
        " --output_dir out/jobs/unet/fold_2/train --max_epochs 3"
    )
    assert words_of(evaluate, "checkpoint") == "out/jobs/unet/fold_2/train/model.pt"
    assert words_of(evaluate, "part") == "test" and evaluate.needs == ["unet/fold_2/train"]


def test_overlays_lie_below_what_makes_the_row():
    overlay = "bundles/safnet/configs/half_size.json"
    jobs = plan_jobs(TABLES["safnet-comparison"], options(models=["unet"], overlays=[overlay]))
    (files,) = {words_of(job, "config_file") for job in jobs.values() if job.step.trains}
    assert [Path(file).stem for file in files.strip("[]'").split("','")] == ["train", "half_size", "unet"]


def test_the_last_weights_and_the_validation_part():
    jobs = plan_jobs(TABLES["safnet-comparison"], options(models=["safnet"], part="validation", weights="last"))
    evaluate = jobs["safnet/fold_0/evaluate"]
    assert words_of(evaluate, "part") == "validation"
    assert words_of(evaluate, "checkpoint").endswith("train/model_last.pt")


def test_the_fusions_share_one_stage_1():
    jobs = plan_jobs(TABLES["sshsnet-comparison"], options(models=["tri_20", "concat_20"]))
    trainings = [key for key, job in jobs.items() if job.step.trains]
    assert trainings == ["cps_20/fold_0/train", "tri_20/fold_0/train", "concat_20/fold_0/train"]
    stages = {words_of(jobs[key], "stage1_dir") for key in trainings[1:]}
    assert stages == {"out/jobs/cps_20/fold_0/train/stage1"}
    assert words_of(jobs["tri_20/fold_0/train"], "labelled_share") == "0.2"


def test_all_gates_are_read_from_one_evaluation():
    jobs = plan_jobs(TABLES["bess-two-stage"], options(folds=[0, 1], max_epochs=4))
    assert list(jobs) == [f"open/fold_{fold}/{step}" for fold in (0, 1) for step in ("train", "evaluate")]
    train = jobs["open/fold_1/train"]
    assert (words_of(train, "max_epochs"), words_of(train, "classifier_max_epochs")) == ("4", "4")
    assert list(plan_jobs(TABLES["bess-two-stage"], options(models=["gate_50"]))) == [
        "open/fold_0/train", "open/fold_0/evaluate",
    ]  # fmt: skip


def test_several_gpus():
    (train, _) = plan_jobs(TABLES["safnet-comparison"], options(models=["safnet"], processes=4)).values()
    assert train.words[:4] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=4"]
    assert "multi_gpu_train.json" in words_of(train, "config_file")


def test_an_interrupted_training_goes_on(tmp_path):
    jobs = plan_jobs(TABLES["bess-two-stage"], options(output=tmp_path))
    train, evaluate = jobs.values()
    assert train.resuming() == train.words
    (train.folder / "classifier").mkdir(parents=True)
    (train.folder / "classifier" / "training_state.pt").touch()
    assert train.resuming() == [*train.words, "--resume", "true"]
    assert evaluate.resuming() == evaluate.words


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"models": ["unte"]}, "--models unte: is no row of safnet-comparison; choose of safnet,unet"),
        ({"ids": {"fold": "1"}}, "--set fold: is what the plan itself sets"),
        ({"ids": {"bach_size": "1"}}, "--set bach_size: is no id of any run of safnet-comparison"),
        ({"ids": {"aspp_rates": "2"}}, "--aspp_rates 2: is not a list"),
        ({"overlays": ["missing.json"], "ids": {"lr": "1"}}, "missing.json: cannot be read"),
    ],
)
def test_what_cannot_be_planned(given, says):
    with pytest.raises(InputError) as error:
        plan_jobs(TABLES["safnet-comparison"], options(**given))
    assert says in str(error.value)


@pytest.mark.parametrize(("weights", "file"), [("best", "model.pt"), ("last", "model_last.pt")])
def test_what_a_training_starts_from_is_chosen_as_what_is_scored(weights, file):
    jobs = plan_jobs(TABLES["funet-comparison"], options(models=["funet"], part="validation", weights=weights))
    train = jobs["funet/fold_0/train"]
    assert words_of(train, "init_checkpoint") == f"out/jobs/funet/fold_0/pretrain/{file}"
