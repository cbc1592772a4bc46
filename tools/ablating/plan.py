"""A plan: a baseline, named changes of it, and what the paper says each one does."""

import dataclasses
import pathlib
import re
import typing
from collections.abc import Mapping
from typing import Literal

from official.alexnet import config as config_lib
from official.alexnet import config_files, fields, paths, plain_yaml
from official.alexnet.config import Config
from official.alexnet.errors import UserError, check_known

PACKAGED = pathlib.Path(__file__).parents[1] / "ablations"
BASELINE = "baseline"
HPARAMS_DIR = "hparams"  # Beside the rows' folders.
MEASURES = ("ten_crop_top_1_error", "top_1_error", "train_loss")
MAIN_MEASURE = MEASURES[0]
# What a mapping of a plan may hold.
_PLAN = {"title": str, "config_file": str, "baseline": dict, "changes": dict}
_CHANGE = {"settings": dict, "paper": dict, "note": str}


@dataclasses.dataclass(frozen=True)
class Claim:
    """What the paper says a change does, and in which section.

    `measure` shows it; `top_1` and `top_5` are by how many points of error.
    """

    effect: Literal["worse", "better"]
    section: str
    says: str
    top_1: int | float | None = None
    top_5: int | float | None = None
    measure: Literal[MEASURES] = MAIN_MEASURE


@dataclasses.dataclass(frozen=True)
class Row:
    """One net of a plan.

    Attributes:
        name: also of its folder.
        config: all its settings, but for data and seed.
        changed: the settings that the plan gives it over the baseline's, as text.
        claim: of the paper; None where it says nothing.
        note: what a reader of the table should know.
    """

    name: str
    config: Config
    changed: dict[str, str] = dataclasses.field(default_factory=dict)
    claim: Claim | None = None
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The rows, the baseline first; `name` is its file's, without its ending."""

    name: str
    title: str
    rows: tuple[Row, ...]


def load(path: str) -> Plan:
    """Reads a plan: a path, or `paper` or `paper.yaml` of those beside the tool.

    Raises:
        UserError: there is no such file, or a mistake in it, with the key's name.
    """
    file = paths.local(path, "--plan")
    if not file.is_file():
        file = PACKAGED / f"{path.removesuffix('.yaml')}.yaml"
        if file not in (names := sorted(PACKAGED.glob("*.yaml"))):
            known = ", ".join(name.stem for name in names)
            raise UserError(
                f"--plan={path}: no such file, and the tool has only {known}"
            )
    return parse(file.read_bytes(), file.stem, str(path))


def parse(text: str | bytes, name: str, source: str) -> Plan:
    """A plan from YAML text; `source` is what an error calls it."""
    content = _checked(plain_yaml.read(text, source), _PLAN, source)
    if not content.get("changes"):
        raise UserError(f"{source}: changes should name the rows of the table")
    base = Config()
    if recipe := content.get("config_file"):
        base = config_files.override(base, config_files.load(recipe), recipe)
    base = _override(base, content.get("baseline", {}), f"{source}: baseline")
    rows = [
        _row(str(key), change, base, f"{source}: {key}")
        for key, change in content["changes"].items()
    ]
    return Plan(name, content.get("title", name), (Row(BASELINE, base), *rows))


def choose(plan: Plan, only: list[str]) -> Plan:
    """The baseline and the rows of these names; all rows where none is named.

    Raises:
        UserError: there is no row of that name.
    """
    names = [row.name for row in plan.rows]
    for name in only:
        check_known(name, names, f"--only: {plan.name} has no row")
    chosen = {*(only or names), BASELINE}
    rows = tuple(row for row in plan.rows if row.name in chosen)
    return dataclasses.replace(plan, rows=rows)


def run_config(row: Row, seed: int, data_dir: str | None) -> Config:
    """All settings of a row's run with one seed.

    Raises:
        UserError: they name no data, or do not go together.
    """
    data = {} if data_dir is None else {"data_dir": data_dir}
    settings = {"train": {"seed": seed}, "data": data}
    config = config_files.override(row.config, settings, "flags")
    config_lib.check(config)
    return config


def flat(config: Config) -> dict[str, object]:
    """Settings by section and name, such as `model.width`."""
    return {
        f"{section}.{name}": value
        for section, values in vars(config).items()
        for name, value in vars(values).items()
    }


def _row(name: str, change, base: Config, source: str) -> Row:
    taken = (BASELINE, HPARAMS_DIR)
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name) or name in taken:
        raise UserError(
            f"{source}: a row's name is a folder's: small letters, digits and _, and "
            f"not {' or '.join(taken)}"
        )
    change = _checked(change, _CHANGE, source)
    config, before = _override(base, change.get("settings", {}), source), flat(base)
    changed = {k: fields.show(v) for k, v in flat(config).items() if v != before[k]}
    if not changed:
        raise UserError(f"{source} changes nothing: its settings are the baseline's")
    claim = None
    if "paper" in change:
        where = f"{source}: paper"
        says = _checked(change["paper"], typing.get_type_hints(Claim), where)
        for key in ("effect", "section", "says"):
            if key not in says:
                raise UserError(f"{where} lacks {key}")
        claim = Claim(**says)
    return Row(name, config, changed, claim, change.get("note"))


def _override(base: Config, settings: dict, source: str) -> Config:
    if not all(isinstance(section, dict) for section in settings.values()):
        raise UserError(
            f"{source} should hold sections of settings, such as "
            "`model: {dropout: 0}`"
        )
    config = config_files.override(base, settings, source)
    try:
        config_lib.check(config, reads_data=False)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    if config.train.skip_eval:
        raise UserError(f"{source}: train.skip_eval leaves nothing to compare")
    if config.train.eval_crops != 1:
        raise UserError(
            f"{source}: train.eval_crops should be 1; ten crops are evaluated at the "
            "end in any case"
        )
    return config


def _checked(values, kinds: Mapping[str, object], source: str) -> dict:
    """A mapping without unknown keys, whose values are of their kinds."""
    if not isinstance(values, dict):
        raise UserError(f"{source} should hold {', '.join(kinds)}")
    for key, value in values.items():
        check_known(key, kinds, f"{source} has no key")
        kind, words = kinds[key], None
        if typing.get_origin(kind) is Literal:
            choices = typing.get_args(kind)
            words = None if value in choices else f"one of {', '.join(choices)}"
        elif not isinstance(value, kind) or isinstance(value, bool):
            words = {str: "text", dict: "a mapping"}.get(kind, "a number")
        if words:
            raise UserError(f"{source}: {key} should be {words}, not {value!r}")
    return values
