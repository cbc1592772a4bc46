"""The plans of the ablation: the packaged ones, and mistakes in one."""

import dataclasses
import pathlib

import pytest
from ablating import plan as plans
from ablating import runs
from ablation_plans import TINY, tiny_plan

from official.alexnet.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["paper", "imagenette_small"])
def test_packaged_plans_have_the_papers_comparisons(name):
    plan = plans.load(name)
    rows = {row.name: row for row in plan.rows}
    assert list(rows) == [
        *("baseline", "no_conv1", "no_conv2", "no_conv3", "no_conv4", "no_conv5"),
        *("no_dropout", "no_lrn", "batch_norm", "pool2x2", "no_color_noise"),
        *("no_crops", "one_gpu", "tanh"),
    ]
    figures = {
        name: (row.claim.top_1, row.claim.top_5)
        for name, row in rows.items()
        if row.claim and row.claim.top_5
    }
    # Sections 3.2, 3.3 and 3.4.
    assert figures == {
        "no_lrn": (1.4, 1.2),
        "pool2x2": (0.4, 0.3),
        "one_gpu": (1.7, 1.2),
    }
    assert rows["batch_norm"].claim is None
    assert rows["tanh"].claim.measure == "train_loss"


def test_the_paper_plan_is_the_papers_recipe():
    plan = plans.load("paper")
    base = plan.rows[0].config
    assert (base.model.num_classes, base.train.train_epochs) == (1000, 90)
    (one_gpu,) = [row for row in plan.rows if row.name == "one_gpu"]
    halves = [conv.filters for conv in one_gpu.config.model.net().convolutions]
    assert halves == [48, 128, 192, 192, 256]
    assert dataclasses.replace(one_gpu.config, model=base.model) == base


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("changes:", "change:", "no key 'change'; did you mean changes?"),
        ("width: 0.0625", "widht: 1", "baseline: model has no 'widht'; did you mean"),
        ("dropout: 0", "dropot: 0", "no_dropout: model has no 'dropot'; did you"),
        ("dropout: 0", "dropout: 1", "no_dropout: --dropout should be in"),
        ("{model: {dropout: 0}}", "{train: {batch_size: 8}}", "are the baseline's"),
        ("{model: {dropout: 0}}", "{}", "no_dropout changes nothing"),
        ("settings: {model", "setings: {model", "no_dropout has no key 'setings'"),
        ("effect: worse", "effect: bad", "paper: effect should be one of worse, bet"),
        ("effect: worse", "effect: same", "one of worse, better, not 'same'"),
        ("effect: worse, ", "", "paper lacks effect"),
        ("top_1: 2", "top_1: two", "top_1 should be a number, not 'two'"),
        ("top_1: 2", "top1: 2", "paper has no key 'top1'; did you mean top_1?"),
        ("  no_dropout:", "  No Dropout:", "a row's name is a folder's"),
        ("  no_dropout:", "  baseline:", "not baseline"),
        ("  no_dropout:", "  hparams:", "or hparams"),
        (
            "    paper: {",
            "    note: 2015\n    paper: {",
            "note should be text, not 2015",
        ),
        ("says: it overfits", "says: 2015", "says should be text, not 2015"),
        ("schedule: constant", "skip_eval: true, schedule: constant", "skip_eval"),
        ("schedule: constant", "eval_crops: 10, schedule: constant", "eval_crops"),
        ("title: A", "title: [A", "is not YAML"),
        ("title: A", "title: A\ntitle: B", "title stands on line"),
    ],
)
def test_a_mistake_in_a_plan_is_named(old, new, said):
    assert old in TINY
    with pytest.raises(UserError) as error:
        plans.parse(TINY.replace(old, new), "tiny", "tiny.yaml")
    assert said in str(error.value)
    assert str(error.value).startswith("tiny.yaml")


def test_only_names_rows():
    plan = plans.load("paper")
    chosen = plans.choose(plan, ["tanh", "no_lrn"])
    assert [row.name for row in chosen.rows] == ["baseline", "no_lrn", "tanh"]
    with pytest.raises(UserError, match="no row 'thanh'; did you mean tanh"):
        plans.choose(plan, ["thanh"])


def test_all_rows_of_a_seed_come_before_the_next(tmp_path):
    todo = runs.runs_of(tiny_plan(), [3, 1], tmp_path, "records")
    names = [run.name for run in todo]
    assert names == [
        *("baseline/seed3", "no_dropout/seed3", "baseline/seed1", "no_dropout/seed1")
    ]
    assert todo[1].config.train.seed == 3
    assert todo[1].config.data.data_dir == "records"
