"""Flags: made from the settings, read back as a `Config`, and shown by --help."""

import dataclasses
import os
import textwrap
from collections.abc import Iterable, Mapping

from absl import flags

from official.alexnet import config as config_lib
from official.alexnet import config_files, fields, run_files
from official.alexnet.config import Config
from official.alexnet.errors import UserError, check_known

FLAGS = flags.FLAGS


def define_config_flags(of_run: Iterable[str] | None = None) -> None:
    """Defines `--config_file` and a flag for each setting.

    Args:
        of_run: names of the settings to define for a command that starts from the
            settings of an earlier run; None for all settings and their own defaults.
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
    for section, field in _settings():
        if of_run is None or field.name in of_run:
            # Where to compute is not the run's, as what to compute is.
            is_own = of_run is None or field.name == "num_columns"
            is_own |= section.name == "runtime"
            default = fields.show(field.default) if is_own else "the run's"
            help = f"{field.metadata['help']} Default: {default}."
            _define(section.type, field, help)


def _define(section: type, field: dataclasses.Field, help: str) -> None:
    kind, _ = fields.kind_of(section, field.name)
    if field.metadata["choices"]:
        flags.DEFINE_enum(field.name, None, list(field.metadata["choices"]), help)
        return
    define = {
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }.get(kind, flags.DEFINE_list)
    define(field.name, None, help)


def _settings() -> list[tuple[dataclasses.Field, dataclasses.Field]]:
    """All settings, each with its section."""
    return [
        (section, field)
        for section in dataclasses.fields(Config)
        for field in dataclasses.fields(section.default)
    ]


def config_from_flags(base: Config | None = None, *, reads_data: bool = True) -> Config:
    """The settings of this call, checked.

    Args:
        base: what to start from: the defaults, or those of an earlier run.
        reads_data: whether the command reads images, and must be told which.

    Raises:
        UserError: a mistake in a file or flag, or another net than the run's.
    """
    names = [field.name for _, field in _settings()] + ["config_file", "layer_params"]
    given = {n: FLAGS[n].value for n in names if n in FLAGS and FLAGS[n].present}
    return config_of(given, base, reads_data=reads_data)


def config_of(
    settings: Mapping[str, object],
    base: Config | None = None,
    *,
    reads_data: bool = True,
) -> Config:
    """Settings by the names of their flags as a `Config`, checked.

    Args and errors are those of `config_from_flags`; an unknown name is one, too.
    """
    if not isinstance(settings, Mapping):
        raise UserError(f"the settings should be a dictionary, not {settings!r}")
    config = base or Config()
    names = {field.name: section.name for section, field in _settings()}
    names["layer_params"] = "model"  # Of a net that --variant names a file of.
    given: dict[str, dict] = {}
    for name, value in settings.items():
        if name == "config_file":
            continue
        check_known(name, names, "no setting")
        plain = os.fspath(value) if isinstance(value, os.PathLike) else value
        given.setdefault(names[name], {})[name] = plain
    if file := settings.get("config_file"):
        config = config_files.override(config, config_files.load(str(file)), str(file))
    config = config_files.override(config, given, "flags")
    sources = {"data_dir", "tfds_name"}
    if base and sources & given.get("data", {}).keys():
        # That of the run is of the run's own data.
        label_base = given["data"].get("label_base", "auto")
        data = dataclasses.replace(config.data, label_base=label_base)
        config = dataclasses.replace(config, data=data)
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
    is_setting = "config_file" in FLAGS
    sections = {f.name: section.name for section, f in _settings() if is_setting}
    titles = {"": "Flags:"} | {
        section.name: f"Settings of the section `{section.name}`:"
        for section in dataclasses.fields(Config)
    }
    blocks = {title: [] for title in titles.values()}
    for flag in own_flags():
        blocks[titles[sections.get(flag.name, "")]].append(_entry(flag))
    shown = [f"{title}\n" + "\n".join(b) for title, b in blocks.items() if b]
    end = "--version shows the version, --helpfull absl's flags too."
    return "\n\n".join([head.strip(), *shown, end])


def _entry(flag: flags.Flag) -> str:
    values = {"int": "=N", "float": "=X", "comma separated list of strings": "=A,B,..."}
    form, text = f"--{flag.name}{values.get(flag.flag_type(), '=TEXT')}", flag.help
    if flag.flag_type() == "bool":
        form = f"--[no]{flag.name}"
    elif isinstance(flag, flags.EnumFlag):
        choices = "|".join(flag.parser.enum_values)
        form = f"--{flag.name}={choices}"
        text = text.removeprefix(f"<{choices}>: ")
        if len(form) > 80:
            form = f"--{flag.name}=NAME"
            text += f" One of {', '.join(flag.parser.enum_values)}."
    if is_required(flag):
        text += " Required."
    elif flag.default is not None and "Default: " not in text:
        text += f" Default: {fields.show(flag.default)}."
    indent = " " * 6
    wrapped = textwrap.fill(text, 80, initial_indent=indent, subsequent_indent=indent)
    return f"  {form}\n{wrapped}"
