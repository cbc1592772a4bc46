"""A plan: a baseline, named changes of it, and what the paper says each one does."""

import dataclasses
import difflib
import pathlib
import re

from official.alexnet import config as config_lib
from official.alexnet import config_files, paths, plain_yaml
from official.alexnet.config import Config
from official.alexnet.errors import UserError

PACKAGED = pathlib.Path(__file__).parents[1] / "ablations"
BASELINE = "baseline"
HPARAMS_DIR = "hparams"  # Beside the rows' folders.
MEASURES = ("ten_crop_top_1_error", "top_1_error", "train_loss")
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class Claim:
    """What the paper says a change does.

    Attributes:
        effect: `worse` or `better` than the baseline.
        section: where it says so.
        says: the sentence in other words.
        top_1: by how many points of top-1 error, where it says a number.
        top_5: the same of top-5 error.
        measure: the result that shows it, one of `MEASURES`.
    """

    effect: str
    section: str
    says: str
    top_1: float | None = None
    top_5: float | None = None
    measure: str = MEASURES[0]


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
    """The rows, the baseline first.

    Attributes:
        name: of its file, without its ending.
        title: for people.
        rows: of the table.
        source: the file as it was named.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    source: str


def load(path: str) -> Plan:
    """Reads a plan, or one of those that come with the tool.

    Args:
        path: a path, or a name such as `paper` or `paper.yaml`.

    Raises:
        UserError: there is no such file, or a mistake in it, with the key's name.
    """
    names = sorted(file.stem for file in PACKAGED.glob("*.yaml"))
    file = paths.local(path, "--plan")
    if not file.is_file():
        if path.removesuffix(".yaml") not in names:
            raise UserError(
                f"--plan={path}: no such file, and the tool has only "
                + ", ".join(names)
            )
        file = PACKAGED / f"{path.removesuffix('.yaml')}.yaml"
    return parse(file.read_bytes(), file.stem, str(path))


def parse(text: str | bytes, name: str, source: str) -> Plan:
    """A plan from YAML text; `source` is what an error calls it."""
    content = plain_yaml.read(text, source)
    _check_keys(content, ("title", "config_file", "baseline", "changes"), source)
    changes = content.get("changes")
    if not isinstance(changes, dict) or not changes:
        raise UserError(f"{source}: changes should name the rows of the table")
    base = Config()
    if content.get("config_file"):
        recipe = str(content["config_file"])
        base = config_files.override(base, config_files.load(recipe), recipe)
    settings = _sections(content.get("baseline"), f"{source}: baseline")
    base = config_files.override(base, settings, f"{source}: baseline")
    _check_config(base, f"{source}: baseline")
    rows = [Row(BASELINE, base)]
    for key, change in changes.items():
        rows.append(_row(str(key), change, base, f"{source}: {key}"))
    return Plan(name, str(content.get("title") or name), tuple(rows), source)


def choose(plan: Plan, only: list[str]) -> Plan:
    """The baseline and the rows of these names; all rows where none is named.

    Raises:
        UserError: there is no row of that name.
    """
    names = [row.name for row in plan.rows]
    for name in only:
        if name not in names:
            raise UserError(f"--only: {plan.name} has no row {_unknown(name, names)}")
    chosen = {*(only or names), BASELINE}
    rows = tuple(row for row in plan.rows if row.name in chosen)
    return dataclasses.replace(plan, rows=rows)


def run_config(row: Row, seed: int, data_dir: str | None) -> Config:
    """All settings of a row's run with one seed.

    Raises:
        UserError: they name no data, or do not go together.
    """
    data = row.config.data
    if data_dir is not None:
        data = dataclasses.replace(data, data_dir=data_dir)
    train = dataclasses.replace(row.config.train, seed=seed)
    config = dataclasses.replace(row.config, data=data, train=train)
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
    if not _NAME.fullmatch(name) or name in taken:
        raise UserError(
            f"{source}: a row's name is a folder's: small letters, digits and _, and "
            f"not {' or '.join(taken)}"
        )
    _check_keys(change, ("settings", "paper", "note"), source)
    settings = _sections(change.get("settings"), source)
    if not any(settings.values()):
        raise UserError(f"{source} changes nothing: give it settings")
    config = config_files.override(base, settings, source)
    _check_config(config, source)
    before, after = flat(base), flat(config)
    changed = {key: _show(after[key]) for key in after if after[key] != before[key]}
    if not changed:
        raise UserError(f"{source} changes nothing: its settings are the baseline's")
    claim, note = change.get("paper"), change.get("note")
    if not isinstance(note, str | None):
        raise UserError(f"{source}: note should be text, not {note!r}")
    return Row(
        name,
        config,
        changed,
        None if claim is None else _claim(claim, f"{source}: paper"),
        note,
    )


def _claim(values, source: str) -> Claim:
    fields = [field.name for field in dataclasses.fields(Claim)]
    _check_keys(values, fields, source)
    for key in ("effect", "section", "says"):
        if not values.get(key):
            raise UserError(f"{source} lacks {key}")
    if not isinstance(values["says"], str):
        raise UserError(f"{source}: says should be text, not {values['says']!r}")
    for key, choices in (("effect", ("worse", "better")), ("measure", MEASURES)):
        if key in values and values[key] not in choices:
            raise UserError(
                f"{source}: {key} should be one of {', '.join(choices)}, not "
                f"{values[key]!r}"
            )
    for key in ("top_1", "top_5"):
        value = values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise UserError(f"{source}: {key} should be points of error, not {value!r}")
    return Claim(**{**values, "section": str(values["section"])})


def _sections(settings, source: str) -> dict[str, dict]:
    settings = settings or {}
    if not isinstance(settings, dict) or not all(
        isinstance(section, dict) for section in settings.values()
    ):
        raise UserError(
            f"{source} should hold sections of settings, such as "
            "`model: {dropout: 0}`"
        )
    return settings


def _check_config(config: Config, source: str) -> None:
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


def _check_keys(values, known: tuple[str, ...] | list[str], source: str) -> None:
    if not isinstance(values, dict):
        raise UserError(f"{source} should hold {', '.join(known)}")
    for key in values:
        if key not in known:
            raise UserError(f"{source} has no key {_unknown(key, known)}")


def _unknown(name, known) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    advice = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    return f"{name!r}; {advice}"


def _show(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return str(value)
