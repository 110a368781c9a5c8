"""Arguments in, exit code out. Each command is a file in `commands/`; what they do stands in the rooms."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import sys
import threading
from collections.abc import Sequence

import click

from npu_guard.base.errors import NpuGuardError
from npu_guard.base.installation import VERSION
from npu_guard.base.terminal import complain, show_text


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the contract's code: 0, 1, 2, 3, 4 or 5."""
    # Large graphs make a million small objects that all live to the end; collecting garbage in between finds none.
    gc.set_threshold(2_000_000, 20, 20)
    # numpy's threads spin from its import on, a quarter of the CPU time of a check, and no matrix here is worth them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by whoever started us; what would go there goes nowhere
            setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open to the end
    try:
        code = cli.main(args=None if argv is None else list(argv), prog_name="npu-guard", standalone_mode=False)
    except NpuGuardError as error:
        complain(str(error))
        code = error.exit_code
    except click.exceptions.Abort:
        complain("interrupted")
        code = 2
    except click.ClickException as error:
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else "npu-guard"
        complain(f"{error.format_message()} (see '{path} --help')")
        code = 2
    except BrokenPipeError:
        # The reader has gone, `| head` for example; python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception:
        import traceback

        for line in traceback.format_exc().splitlines():
            complain(line)
        complain("this is a bug in npu-guard, please report it with the lines above")
        code = 4
    code = code if isinstance(code, int) else 0
    if argv is None:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> None:
    """End the process at once, with what was registered for its end but without taking apart what dies with it anyway.

    Freeing objects one by one takes as long as checking a small model. Returns where somebody would miss the long way: other
    threads, debuggers, profilers, and whoever wants a prompt afterwards.
    """
    watched = sys.gettrace() or sys.getprofile() or sys.flags.interactive or "coverage" in sys.modules
    if watched or threading.active_count() > 1:
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # complained about when it was written
            stream.flush()
    os._exit(code)


class _Commands(click.Group):
    """Commands by file name, imported when they are called: one's dependencies do not slow down another."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:  # whoever says nothing wants to know what there is to say
            show_text(f"{ctx.get_help()}\n")
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        files = os.listdir(os.path.join(os.path.dirname(__file__), "commands"))
        return sorted(f[:-3].replace("_", "-") for f in files if f.endswith(".py") and not f.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"npu_guard.commands.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = self.list_commands(ctx)
        if name in known or name.startswith("-"):
            return super().resolve_command(ctx, args)
        import difflib  # for those who mistype

        close = difflib.get_close_matches(name, known, 1)
        said = f"did you mean {close[0]!r}?" if close else "a file of that name is checked by 'npu-guard check'"
        raise click.UsageError(f"no command {name!r}{f'; {said}' if close or os.path.exists(name) else ''}", ctx)


@click.command(
    cls=_Commands, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(VERSION, package_name="npu-guard", message="%(prog)s %(version)s")
def cli() -> None:
    """Tell whether ONNX models compile for an NPU, at the exact node and with the exact number.

    Exit codes: 0 clean, 1 findings, 2 usage or configuration error, 3 a model that cannot be read, 4 internal error,
    5 not verified as equal (fix, verify, partition, quantize).
    """
