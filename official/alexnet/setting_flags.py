"""Flags: made from the settings, read back as a `Config`, and shown by --help."""

import os
import textwrap
from collections.abc import Collection, Mapping

from absl import flags

from official.alexnet import config as config_lib
from official.alexnet import config_files, fields, run_files
from official.alexnet.config import SETTINGS, Config
from official.alexnet.errors import UserError, check_known

FLAGS = flags.FLAGS
_KINDS = {bool: "bool", int: "integer", float: "float", str: "string"}


def define_config_flags(of_run: Collection[str] | None = None) -> None:
    """Defines `--config_file` and a flag for each setting.

    A command that starts from the settings of an earlier run names in `of_run` those
    that it lets change.
    """
    flags.DEFINE_string(
        "config_file",
        None,
        "YAML file of settings: a path, or the name of one that comes with the "
        "package, such as paper. Flags win over it. Default: none.",
    )
    if of_run is None:
        flags.DEFINE_string(
            "layer_params",
            None,
            "Constants and rates of --variant=layers-x.cfg; other settings win over "
            "the rates. Default: layer-params-x.cfg beside it, if it is there.",
        )
    for name in SETTINGS if of_run is None else [n for n in SETTINGS if n in of_run]:
        section, field = SETTINGS[name]
        # Where to compute is not the run's, as what to compute is.
        is_own = of_run is None or name == "num_columns" or section == "runtime"
        default = fields.show(field.default) if is_own else "the run's"
        help = f"{field.metadata['help']} Default: {default}."
        if choices := field.metadata["choices"]:
            flags.DEFINE_enum(name, None, list(choices), help)
        else:
            kind = _KINDS.get(fields.kinds_of(field)[0], "list")
            getattr(flags, f"DEFINE_{kind}")(name, None, help)


def config_from_flags(base: Config | None = None, *, reads_data: bool = True) -> Config:
    """The settings of this call, checked; arguments and errors as of `config_of`."""
    names = [n for n in (*SETTINGS, "config_file", "layer_params") if n in FLAGS]
    given = {name: FLAGS[name].value for name in names if FLAGS[name].present}
    return config_of(given, base, reads_data=reads_data)


def config_of(
    settings: Mapping[str, object],
    base: Config | None = None,
    *,
    reads_data: bool = True,
) -> Config:
    """Settings by the names of their flags as a `Config`, checked.

    Args:
        settings: their values, and `config_file`.
        base: what to start from: the defaults, or those of an earlier run.
        reads_data: whether it is for what reads images, which must be told of some.

    Raises:
        UserError: a mistake in a file, name or value, or another net than the run's.
    """
    if not isinstance(settings, Mapping):
        raise UserError(f"the settings should be a dictionary, not {settings!r}")
    names = {name: section for name, (section, _) in SETTINGS.items()}
    names["layer_params"] = "model"  # Of a net that --variant names a file of.
    given: dict[str, dict] = {section: {} for section in names.values()}
    for name, value in settings.items():
        if name != "config_file":
            check_known(name, names, "no setting")
            plain = os.fspath(value) if isinstance(value, os.PathLike) else value
            given[names[name]][name] = plain
    config = base or Config()
    if "train_epochs" in given["train"]:  # A recipe's steps would win over it.
        given["train"].setdefault("train_steps", None)
    sources = [(given, "flags")]
    if (file := settings.get("config_file")) is not None:
        sources.insert(0, (config_files.load(str(file)), str(file)))
    config = config_files.layered(config, *sources)
    if base and {"data_dir", "tfds_name"} & given["data"].keys():
        # That of the run is of the run's own data.
        config = config.replace(label_base=given["data"].get("label_base", "auto"))
    config_lib.check(config, reads_data=reads_data)
    if base is not None and (others := run_files.other_net(base, config)):
        raise UserError(
            f"the run was trained with other settings ({', '.join(others)}): leave "
            "these out"
        )
    return config


def own_flags() -> list[flags.Flag]:
    """The command's flags without those that absl adds to every program."""
    modules = FLAGS.flags_by_module_dict().items()
    return [flag for name, own in modules if "absl." not in name for flag in own]


def is_required(flag: flags.Flag) -> bool:
    """absl keeps it as a validator, as it keeps bounds."""
    return any("other than None" in check.message for check in flag.validators)


def help_of(head: str) -> str:
    """What --help says: `head`, and the command's own flags by section.

    absl would show only those that the command's main file defines.
    """
    titles = {name: f"Settings of the section `{name}`:" for name in vars(Config())}
    blocks = {"Flags:": []} | {title: [] for title in titles.values()}
    for flag in own_flags():
        section, _ = SETTINGS.get(flag.name, ("", None))
        is_setting = section and "config_file" in FLAGS
        blocks[titles[section] if is_setting else "Flags:"].append(_entry(flag))
    shown = ["\n".join([title, *block]) for title, block in blocks.items() if block]
    end = "--version shows the version, --helpfull absl's flags too."
    return "\n\n".join([head.strip(), *shown, end])


def _entry(flag: flags.Flag) -> str:
    kind, text = flag.flag_type(), flag.help
    values = {"int": "N", "float": "X", "comma separated list of strings": "A,B,..."}
    value = values.get(kind, "TEXT")
    if isinstance(flag, flags.EnumFlag):
        value = "|".join(flag.parser.enum_values)
        text = text.removeprefix(f"<{value}>: ")
        if len(value) > 60:
            text += f" One of {value.replace('|', ', ')}."
            value = "NAME"
    if is_required(flag):
        text += " Required."
    elif flag.default is not None and "Default: " not in text:
        text += f" Default: {fields.show(flag.default)}."
    form = f"--[no]{flag.name}" if kind == "bool" else f"--{flag.name}={value}"
    return f"  {form}\n{textwrap.indent(textwrap.fill(text, 74), ' ' * 6)}"
