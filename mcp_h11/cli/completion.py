# SPDX-License-Identifier: MIT
"""Scripts with which a shell completes the words after `mcp-h11`: `--completion bash|zsh|fish` prints one.

A script is made from the parsers of all commands: their options, the choices of values, and which values are files.  It
starts no Python, so a completion takes no time; after an upgrade it is printed again.

Rule: only words of our own are put into a script, and quoted for the shell that reads it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .commands import commands_here, parser_of
from .fields import readers
from .parser import PACKAGE, UsageError
from .values import OneOf

SCRIPT = "mcp-h11"  # the installed command; `python -m` is a command of Python, whose completion is not ours
SHELLS = ("bash", "zsh", "fish")

# Kinds of values beside words: a Python file, any file, a folder, and those of which nothing is known.
PYTHON, FILE, FOLDER, UNKNOWN = "python", "file", "folder", ""
_KINDS = {"TARGET": PYTHON, "FILE": FILE, "FOLDER": FOLDER, "DEST": FOLDER}


@dataclass(frozen=True)
class Completions:
    """What can stand for one value: some words, or files of a kind."""

    words: tuple[str, ...] = ()
    kind: str = UNKNOWN
    open: bool = False  # a word is a beginning: no blank follows


@dataclass(frozen=True)
class Flag:
    """An option with all its names; `values` is None where it takes no value."""

    names: tuple[str, ...]
    help: str
    values: Completions | None


@dataclass(frozen=True)
class CommandWords:
    """The words of one command: its options, and its arguments in order."""

    word: str
    flags: tuple[Flag, ...]
    arguments: tuple[Completions, ...]
    repeats: bool  # the last argument may come again


def _values(action: argparse.Action) -> Completions:
    if action.dest == "set":
        return Completions(tuple(f"{name}=" for name, read in readers().items() if read is not None), open=True)
    if isinstance(action.type, OneOf):
        return Completions(action.type.choices)
    if action.choices is not None:
        return Completions(tuple(map(str, action.choices)))
    return Completions(kind=_KINDS.get(str(action.metavar), UNKNOWN))


def shape_of(word: str) -> CommandWords:
    """The words of a command, as its parser has them; "" is the one that serves."""
    flags, arguments, repeats = [], [], False
    for action in parser_of(word)._actions:
        if action.option_strings:
            values = None if action.nargs == 0 else _values(action)
            flags.append(Flag(tuple(action.option_strings), _plain(action.help), values))
        else:
            arguments.append(_values(action))
            repeats = action.nargs in ("*", "+")
    return CommandWords(word, tuple(flags), tuple(arguments), repeats)


def _plain(text: Any) -> str:
    # A bracket or a colon has a meaning for zsh, and quotes have one for every shell.
    return "".join(" " if one in "'\"`\\[]$:" else one for one in str(text or "")).replace("%%", "%")


def _shapes() -> list[CommandWords]:
    return [shape_of(word) for word in ("", *commands_here())]


def completion_script(shell: str) -> str:
    """The script for bash, zsh or fish.  Raises UsageError in a copy that has another name."""
    if PACKAGE != "mcp_h11":
        raise UsageError(f"completion is for the command {SCRIPT}, which a vendored copy does not have")
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](_shapes())


# --- bash ------------------------------------------------------------------------------------------------------------

_BASH = """\
# bash completion of {script}.  Now: source <({script} --completion bash)
# For every shell: {script} --completion bash > ~/.local/share/bash-completion/completions/{script}

_mcp_h11_words() {{
    local IFS=$' \\t\\n'
    COMPREPLY+=($(compgen -W "$1" -- "$2"))
}}

_mcp_h11_files() {{
    local IFS=$'\\n'
    case $1 in
    python) COMPREPLY+=($(compgen -f -X '!*.py' -- "$2") $(compgen -d -- "$2")) ;;
    file) COMPREPLY+=($(compgen -f -- "$2")) ;;
    folder) COMPREPLY+=($(compgen -d -- "$2")) ;;
    esac
    compopt -o filenames 2>/dev/null
}}

_mcp_h11() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command= word i place=0 last=
    COMPREPLY=()
    # Readline cuts a word at its "=".
    if [[ $current == "=" ]]; then
        current=
    elif [[ $before == "=" ]]; then
        before=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        # All that follows is a command of the user.
        if [[ $word == "--" ]]; then
            if ((i + 1 == COMP_CWORD)); then
                COMPREPLY=($(compgen -c -- "$current"))
            else
                _mcp_h11_files file "$current"
            fi
            return
        fi
        if ((i == 1)); then
            case $word in
            {commands}) command=$word; continue ;;
            esac
        fi
        if [[ $word == "=" ]]; then
            last=${{COMP_WORDS[i-1]}}
            continue
        fi
        case "$command $last" in
        {takes}) last= ;;
        *)
            last=
            case $word in
            -*) last=$word ;;
            *) place=$((place + 1)) ;;
            esac
            ;;
        esac
    done
    case "$command $before" in
{values}
    esac
    case $current in
    -*)
        case $command in
{options}
        esac
        return
        ;;
    esac
    if ((COMP_CWORD == 1)); then
        _mcp_h11_words "{words}" "$current"
    fi
    case "$command $place" in
{places}
    esac
}}

complete -F _mcp_h11 {script}
"""


def _bash(shapes: Sequence[CommandWords]) -> str:
    takes, values, options, places = [], [], [], []
    for shape in shapes:
        word = shape.word
        for flag in shape.flags:
            if flag.values is None:
                continue
            patterns = "|".join(f'"{word} {name}"' for name in flag.names)
            takes.append(patterns)
            values.append(f"    {patterns}) {_bash_values(flag.values)}return ;;")
        names = " ".join(name for flag in shape.flags for name in flag.names)
        options.append(f'        "{word}") _mcp_h11_words "{names}" "$current" ;;')
        for number, argument in enumerate(shape.arguments):
            last = "*" if shape.repeats and number == len(shape.arguments) - 1 else str(number)
            places.append(f'    "{word} "{last}) {_bash_values(argument)};;')
    return _BASH.format(
        script=SCRIPT, commands="|".join(commands_here()), words=" ".join(commands_here()), takes="|".join(takes),
        values="\n".join(values), options="\n".join(options), places="\n".join(places),
    )  # fmt: skip


def _bash_values(values: Completions) -> str:
    if values.words:
        more = "compopt -o nospace 2>/dev/null; " if values.open else ""
        return f'_mcp_h11_words "{" ".join(values.words)}" "$current"; {more}'
    return f'_mcp_h11_files {values.kind} "$current"; ' if values.kind else ""


# --- zsh -------------------------------------------------------------------------------------------------------------

_ZSH = """\
#compdef {script}
# zsh completion of {script}.  Now: source <({script} --completion zsh)
# For every shell: {script} --completion zsh > a folder of $fpath, as _{script}

_mcp_h11() {{
  local curcontext=$curcontext
  if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
    local -a commands=(
{commands}
    )
    _describe -t commands command commands
    _files -g '*.py(-.)'
    return
  fi
  case $words[2] in
{cases}
  esac
}}

if [[ $funcstack[1] == _mcp_h11 || $funcstack[1] == _{script} ]]; then
  _mcp_h11 "$@"
else
  compdef _mcp_h11 {script}
fi
"""


def _zsh(shapes: Sequence[CommandWords]) -> str:
    commands = "\n".join(f"      '{word}:{_plain(entry.about)}'" for word, entry in commands_here().items())
    # The command without a word comes last, since its pattern fits every other.
    cases = "\n".join(_zsh_case(shape) for shape in (*shapes[1:], shapes[0]))
    return _ZSH.format(script=SCRIPT, commands=commands, cases=cases)


def _zsh_case(shape: CommandWords) -> str:
    specs = []
    for flag in shape.flags:
        for name in flag.names:
            value = "" if flag.values is None else f":value:{_zsh_values(flag.values)}"
            specs.append(f"'*{name}{'=' if value and name.startswith('--') else ''}[{flag.help}]{value}'")
    for number, argument in enumerate(shape.arguments, 1):
        place = "*" if shape.repeats and number == len(shape.arguments) else str(number)
        specs.append(f"'{place}:argument:{_zsh_values(argument)}'")
    if shape.word == "proxy":
        specs.append("'*::command:_normal'")
    shift = "shift words; (( CURRENT-- )); " if shape.word else ""
    joined = " \\\n      ".join(specs)
    return f"  {shape.word or '*'})\n    {shift}_arguments -S -s \\\n      {joined}\n    ;;"


def _zsh_values(values: Completions) -> str:
    if values.words and values.open:
        # A blank before the action: it gets no more arguments than these.
        return " compadd -S = -- " + " ".join(word.rstrip("=") for word in values.words)
    if values.words:
        return f"({' '.join(values.words)})"
    return {PYTHON: '_files -g "*.py(-.)"', FILE: "_files", FOLDER: "_files -/", UNKNOWN: ""}[values.kind]


# --- fish ------------------------------------------------------------------------------------------------------------


def _fish(shapes: Sequence[CommandWords]) -> str:
    all_words = " ".join(commands_here())
    lines = [
        f"# fish completion of {SCRIPT}.  Now: {SCRIPT} --completion fish | source",
        f"# For every shell: {SCRIPT} --completion fish > ~/.config/fish/completions/{SCRIPT}.fish",
        f"complete -c {SCRIPT} -e",
        f"complete -c {SCRIPT} -f",
    ]
    first = "test (count (commandline -opc)) -eq 1"
    entries = commands_here()
    lines += [
        f"complete -c {SCRIPT} -n '{first}' -a {word} -d '{_plain(entry.about)}'" for word, entry in entries.items()
    ]
    for shape in shapes:
        seen = f"__fish_seen_subcommand_from {shape.word or all_words}"
        here = seen if shape.word else f"not {seen}"
        lines += [f"complete -c {SCRIPT} -n '{here}' {_fish_flag(flag)}" for flag in shape.flags]
        lines += [f"complete -c {SCRIPT} -n '{here}' {given}" for given in _fish_arguments(shape.arguments)]
    return "\n".join(lines) + "\n"


def _fish_flag(flag: Flag) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names)
    given = ""
    if flag.values is not None and flag.values.words:
        given = f" -x -a '{' '.join(flag.values.words)}'"
    elif flag.values is not None:
        given = _FISH_FILES.get(flag.values.kind, " -x")
    return f"{names}{given} -d '{flag.help}'"


_FISH_FILES = {
    FILE: " -r -F", FOLDER: " -x -a '(__fish_complete_directories)'", PYTHON: " -x -a '(__fish_complete_suffix .py)'",
}  # fmt: skip


def _fish_arguments(arguments: Iterable[Completions]) -> list[str]:
    """What completes the arguments, whatever their place is: fish has no words for it."""
    found = []
    for values in arguments:
        if values.words:
            found.append(f"-a '{' '.join(values.words)}'")
        elif values.kind == FOLDER:
            found.append("-a '(__fish_complete_directories)'")
        elif values.kind == PYTHON:
            found.append("-k -a '(__fish_complete_suffix .py)'")
    return found
