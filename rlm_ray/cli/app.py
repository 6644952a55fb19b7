"""The commands. Only the module of the one that is asked for is imported: all of them take half a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version as version_of
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or a group of commands, before its module is imported."""

    home: str
    """Its module and function, below `rlm_ray.cli`; empty for a group that is no command itself."""
    summary: str
    """How its help begins: what the list of commands says of it."""
    exit_codes: tuple[int, ...] = ()
    more: str = ""
    """What its help says before the exit codes."""
    members: tuple[tuple[str, Command], ...] = ()
    """The commands of a group, by name."""

    def build(self, name: str) -> Any:
        """Import it, and return it as typer wants it."""
        app = typer.Typer(
            name=name, rich_markup_mode=None, add_completion=False, no_args_is_help=not self.home
        )
        if not self.members:
            app.command(name, epilog=self.epilog())(self.function())
        elif self.home:
            app.callback(invoke_without_command=True, epilog=self.epilog())(self.function())
        else:
            app.callback(help=self.summary)(lambda: None)
        for each, member in self.members:
            app.command(each, epilog=member.epilog())(member.function())
        return typer.main.get_command(app)

    def function(self) -> Callable[..., None]:
        """Import the function, and give it the options that every command has."""
        from rlm_ray.cli.output import with_output_options

        module, _, function = self.home.partition(":")
        return with_output_options(getattr(import_module(f"rlm_ray.cli.{module}"), function))

    def epilog(self) -> str:
        """Return the last lines of its help."""
        from rlm_ray.cli.console import EXIT_CODES

        return (
            f"{self.more}Exit codes: {'; '.join(f'{code} {EXIT_CODES[code]}' for code in self.exit_codes)}."
        )


_RUN_CODES, _ITEM_CODES = (0, 1, 2, 4, 5, 130), (0, 1, 2, 3, 4, 5, 130)
COMMANDS = {
    "ask": Command("ask:ask", "Ask one question about text of any size.", _RUN_CODES),
    "batch": Command(
        "batch:batch",
        "Ask the same question about each row of files of any size.",
        _ITEM_CODES,
        more="Asked again with the same --out, it goes on where it was. ",
    ),
    "map-reduce": Command(
        "map_reduce:map_reduce", "Ask every piece of a large input the same, side by side,", _ITEM_CODES
    ),
    "resume": Command("resume:resume", "Go on with a run that was killed or stopped, from its", _ITEM_CODES),
    "view": Command("view:view", "Write a run as one HTML file that needs nothing else, and", (0, 1, 2, 5)),
    "config": Command(
        "config:config", "Show every setting, its value, and where that comes from:", (0, 2, 5)
    ),
    "models": Command(
        "models:models", "List models: what a window holds, the most a reply may", (0, 1, 2, 5)
    ),
    "doctor": Command("doctor:doctor", "Check what a run needs, and say what to do.", (0, 2, 5)),
    "serve": Command("serve:serve", "Serve questions to any OpenAI client, and a web page at /.", (0, 2, 5)),
    "up": Command("up:up", "Start Ray on this machine and keep it, with session actors", (0, 1, 2, 5)),
    "down": Command("up:down", "End the Ray that `rlm-ray up` keeps, and what runs on it.", (0, 1, 2, 5)),
    "shutdown": Command(
        "up:shutdown", "End the admission, journals, caches and run registries that", (0, 1, 2, 5)
    ),
    "runs": Command(
        "runs:runs",
        "List the runs on record, newest first; `delete` deletes",
        (0, 1, 2, 5),
        members=(
            ("prune", Command("runs:prune_runs", "Delete the folders of old runs", (0, 1, 2, 5))),
            ("delete", Command("runs:delete_runs", "Delete runs for good", (0, 1, 2, 5, 130))),
        ),
    ),
    "cache": Command(
        "",
        "The response cache.",
        members=(("prune", Command("runs:prune_cache", "Drop the old replies", (0, 2))),),
    ),
}


class _BuiltCommands(MutableMapping[str, Any]):
    """The commands as typer wants them, each built when it is first asked for."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = COMMANDS[name].build(name)
        return self._built[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._built[name] = command

    def __delitem__(self, name: str) -> None:
        del self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**COMMANDS, **self._built})

    def __len__(self) -> int:
        return len({**COMMANDS, **self._built})


class _Commands(TyperGroup):
    """Lists the commands without importing them."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _BuiltCommands()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - as typer calls it
        """Return their names."""
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - as typer calls it
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _listed(command.summary)) for name, command in COMMANDS.items()])


def _listed(summary: str) -> str:
    return summary if summary.endswith(".") else f"{summary.rstrip(',')}..."


app = typer.Typer(
    name="rlm-ray",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rlm-ray {version_of('rlm-ray')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Recursive Language Models on Ray: ask questions larger than any model's window."""
