"""The command ``genctl``: registers one file per command and turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from genctl import __version__
from genctl.cli import (
    bench,
    data,
    doctor,
    evaluate,
    inspect_curves,
    interpolate,
    presets,
    report,
    sample,
    study,
    train,
)
from genctl.cli.output import report_error, unwritten
from genctl.engine.launch import launched_rank
from genctl.engine.signals import interrupting
from genctl.errors import GenctlError, OutOfMemoryError, StoppedError, UsageError
from genctl.printable import write_anywhere

EPILOG = """Exit codes: 0 done · 1 failed · 2 bad usage or configuration · 3 a --require gate was
not met · 4 bad or missing data · 5 missing capability, extra or weights · 6 non-finite numbers
stopped the run · 130 interrupted, checkpoint saved."""

IN_PARALLEL = ("train", "sample", "evaluate")
"""Commands that several processes share; every other one is done by the first alone."""

# Older typers depend on click, newer ones carry their own; this is the base of bad usage in both.
BadUsage: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="genctl",
    help="Train, sample, interpolate and evaluate generative models on your own images.",
    epilog=EPILOG,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        print(f"genctl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Options of genctl itself."""


app.command("train")(train.train)
app.command("sample")(sample.sample)
app.command("interpolate")(interpolate.interpolate)
app.command("evaluate")(evaluate.evaluate)
app.command("inspect-curves")(inspect_curves.inspect_curves)
app.add_typer(presets.app, name="presets")
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("study")(study.study)
app.command("report")(report.report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code of the contract.
    """
    with unwritten() as lost:
        code = _run(arguments)
    return 1 if lost and code == 0 else code


def _run(arguments: Sequence[str] | None) -> int:
    _open_standard_streams()
    write_anywhere(sys.stdout, sys.stderr)
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    json_output = "--json" in words
    if launched_rank() and words[0] not in IN_PARALLEL:
        return 0
    try:
        with interrupting() as interrupts:
            result = app(args=words, prog_name="genctl", standalone_mode=False)
        if result == 130 and interrupts.stop:  # newer typers turn the exception into a number
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except GenctlError as error:
        report_error(error, json_output)
        return error.exit_code
    except BadUsage as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "genctl"
        reason = getattr(error, "format_message", error.__str__)()
        report_error(UsageError(command, reason, f"{command} --help"), json_output)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        report_error(StoppedError("genctl", "interrupted"), json_output)
        return 130
    except typer.Exit as error:
        return error.exit_code
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        thing = str(error.filename or "the system")
        report_error(
            GenctlError(thing, error.strerror or str(error), _os_remedy(error)), json_output
        )
        return 1
    except Exception as error:  # a bug, unless memory ran out
        if not _is_out_of_memory(error):
            if json_output:  # scripts still get their one object
                reason = f"{type(error).__name__}: {error}"
                report_error(GenctlError("genctl", reason, "a bug; please report it"), True)
            raise
        short = OutOfMemoryError("memory", "not enough", "lower train.batch_size or --batch-size")
        report_error(short, json_output)
        return 1


def _open_standard_streams() -> None:
    """Where the caller closed one, as `2>&-` does: else the next file opened would get its number.

    What a library then says to the number would be written into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for the whole process


def _is_out_of_memory(error: Exception) -> bool:
    if not isinstance(error, MemoryError | RuntimeError):
        return False
    from genctl.engine.memory import is_out_of_memory  # imports torch, which is here by now

    return is_out_of_memory(error)


def _os_remedy(error: OSError) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space; a run goes on with `genctl train --resume RUN`"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return "choose a place you may write to with --out"
    if error.errno == errno.ENAMETOOLONG:
        return "choose a shorter name"
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
        return "check each folder on the way to this path"
    return ""
