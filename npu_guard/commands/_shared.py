"""Options that several commands have, and the settings that follow from them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec.structs import replace

from npu_guard.base.clock import report_date
from npu_guard.base.errors import UsageError
from npu_guard.base.terminal import complain
from npu_guard.checking import registry
from npu_guard.device.toolkit import with_toolkit
from npu_guard.file.constant_inputs import Held
from npu_guard.project.config import Config, expect_max_cost, expect_rule, find_config, read_config
from npu_guard.project.environment import misspelt, with_environment
from npu_guard.results.proof import LABELS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)
FORMATS = tuple(registry.members("reports"))

_TOOLKIT = "npu_guard.toolkit"
"""Where a run of the program keeps what `--toolkit` was given."""


def _keep_toolkit(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.meta[_TOOLKIT] = value


def expect_no_toolkit(what: str) -> None:
    """Raise UsageError where `--toolkit` was given, which says nothing of several devices."""
    if click.get_current_context().meta.get(_TOOLKIT):
        raise UsageError(f"--toolkit goes with a single profile, not with {what}; name it for each as DEVICE@NAME==VERSION")


def complete_rules(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Rules, for a shell that asks."""
    from npu_guard.commands import _completion

    return _completion.rules(incomplete)


def complete_profiles(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Devices, for a shell that asks."""
    from npu_guard.commands import _completion

    return _completion.profiles(incomplete)


def with_profile(command: Decorated) -> Decorated:
    """The options that say which device: `profile`, and the version of its compiler, which `config_of` puts together."""
    toolkit = click.option(
        "--toolkit", metavar="NAME==VERSION", expose_value=False, callback=_keep_toolkit,
        help="The compiler that you have, such as rknn-toolkit2==2.3.2: limits of that version, where they are known.",
    )  # fmt: skip
    profile = click.option(
        "--profile", metavar="NAME", shell_complete=complete_profiles,
        help="Device: a name from 'npu-guard profiles' or the path of a TOML file.",
    )  # fmt: skip
    return profile(toolkit(command))


with_format = click.option(
    "--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="Format of the result."
)
with_fail_on = click.option(
    "--fail-on", type=click.Choice(("error", "warning", "never")), help="What makes the exit code 1.  [default: error]"
)
with_shapes = click.option(
    "--input-shape", "shapes", metavar="NAME:1,3,384,640", multiple=True, help="Fix the shape of an input."
)
with_calibration = click.option(
    "--calibration", metavar="FILE.npz|DIR", type=click.Path(path_type=Path), help="Your data, an array for each input."
)
with_config = click.option(
    "--config", "config_file", metavar="FILE", type=click.Path(path_type=Path), help="Settings instead of the project's."
)


with_require = click.option(
    "--require", type=click.Choice(tuple(label.replace(" ", "-") for label in LABELS[:2])),
    help="Exit with 5, and write nothing, where less than that is known of a replaced block or of the whole model.",
)  # fmt: skip


_HELD = "npu_guard.held"
"""Where a run of the program keeps what `with_held` was given."""


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    context.meta[f"{_HELD}.{parameter.name}"] = value


def with_held(command: Decorated) -> Decorated:
    """Options about inputs that count as constants; `held_inputs` tells what was given."""
    values = click.option(
        "--input-value", "values", metavar="NAME=16000", multiple=True, expose_value=False, callback=_keep,
        help="Take an input, such as a mode, as a constant.",
    )  # fmt: skip
    freeze = click.option(
        "--freeze-weights", "freeze", is_flag=True, expose_value=False, callback=_keep,
        help="Take weights that are inputs as well as constants.",
    )  # fmt: skip
    return freeze(values(command))


def with_simplify(
    command: Decorated, words: str = "Judge the model as onnx-simplifier leaves it; this reads weights."
) -> Decorated:
    """Whether models are judged as a simplifier leaves them; `config_of` tells, and `simplify_asked` whether by an option."""
    return click.option(
        "--simplify/--no-simplify", "simplify", default=None, expose_value=False, callback=_keep, help=words
    )(command)  # fmt: skip


def simplify_asked() -> bool | None:
    """What the command line says; None where it says nothing, and the settings count."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(f"{_HELD}.simplify")


def report_target(entry: str, formats: Sequence[str]) -> tuple[str, Path]:
    """Format and file of an option `--report`. Raises UsageError."""
    form, _, path = entry.partition(":")
    if form not in formats or not path:
        raise UsageError(f"--report {entry!r}: write it as FORMAT:FILE with a format of {', '.join(formats)}")
    return form, Path(path)


def with_dated(command: Decorated) -> Decorated:
    """The option `--dated`; `date_of_run` tells what follows from it."""
    return click.option(
        "--dated", is_flag=True, expose_value=False, callback=_keep,
        help="Write today's date onto the page, which SOURCE_DATE_EPOCH does as well with its own.",
    )(command)  # fmt: skip


def date_of_run() -> str:
    """ISO date that reports are to show, empty where nobody asked for one. Raises UsageError."""
    context = click.get_current_context(silent=True)
    return report_date(dated=bool(context is not None and context.meta.get(f"{_HELD}.dated")))


def held_inputs() -> Held:
    """What was said of inputs that count as constants. Raises UsageError."""
    context = click.get_current_context(silent=True)
    meta = {} if context is None else context.meta
    return Held(bool(meta.get(f"{_HELD}.freeze")), dict(_input_value(entry) for entry in meta.get(f"{_HELD}.values") or ()))


_TRUTH = {"true": 1.0, "false": 0.0}


def _input_value(entry: str) -> tuple[str, tuple[float, ...]]:
    name, _, text = entry.rpartition("=")
    try:
        numbers = tuple(_TRUTH[word] if (word := part.strip().lower()) in _TRUTH else float(word) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not name or not numbers:
        raise UsageError(f"--input-value {entry!r}: write it as NAME=16000, or NAME=1,0,2 for several numbers")
    return name, numbers


def with_format_of(command: str) -> Callable[[Decorated], Decorated]:
    """The option `--format` of a command whose results have formats of their own."""
    return click.option(
        "--format", "form", type=click.Choice(registry.formats(command)), default="text", show_default=True,
        help="Format of the result.",
    )  # fmt: skip


def config_of(
    config_file: Path | None, *, profile: str | None = None, fail_on: str | None = None, allow_undecided: bool = False,
    select: str | None = None, ignore: str | None = None, shapes: tuple[str, ...] = (), max_cost: float | None = None,
) -> Config:  # fmt: skip
    """The project's settings, then environment variables, then the flags. Raises UsageError."""
    for line in misspelt():
        complain(line)
    file = config_file or find_config(Path.cwd())
    config = with_environment(read_config(file, _rules()) if file is not None else Config())
    flags = {"--select": _codes(select), "--ignore": _codes(ignore)}
    if max_cost is not None:
        expect_max_cost(max_cost, "--max-cost")
    for flag, entries in flags.items():
        for entry in entries:
            expect_rule(entry, list(_rules()), flag)
    return replace(
        config,
        profile=with_toolkit(profile or config.profile, click.get_current_context().meta.get(_TOOLKIT)),
        select=flags["--select"] or config.select,
        ignore=(*config.ignore, *flags["--ignore"]),
        fail_on=fail_on or config.fail_on,
        allow_undecided=allow_undecided or config.allow_undecided,
        max_cost=config.max_cost if max_cost is None else max_cost,
        input_shapes=input_shapes(shapes),
        held=held_inputs(),
        simplify=config.simplify if (asked := simplify_asked()) is None else asked,
        file="" if config_file is None else str(config_file),
    )


def _rules() -> Iterator[tuple[str, str]]:
    """Codes and names of the rules, which are imported only where somebody asks."""
    yield from ((r.code, r.name) for r in registry.rules())


def _codes(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def input_shapes(entries: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes by input name from `NAME:1,3,384,640`. Raises UsageError."""
    return dict(_input_shape(entry) for entry in entries)


def _input_shape(entry: str) -> tuple[str, tuple[int, ...]]:
    name, _, dims = entry.rpartition(":")
    try:
        shape = tuple(int(part) for part in dims.split(",") if part.strip())
    except ValueError:
        shape = ()
    if not name or not shape or min(shape) < 0:
        raise UsageError(f"--input-shape {entry!r}: write it as NAME:1,3,384,640")
    return name, shape


Progress = Callable[[str, int, int], None]


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error while somebody looks at it, gone when the work is done; nothing into files and pipes."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Starting", total=None)

        def update(what: str, done: int, total: int) -> None:
            # One step alone says nothing of how far it is: a bar that moves to and fro.
            bar.update(task, description=what, completed=done, total=total if total > 1 else None)

        yield update
