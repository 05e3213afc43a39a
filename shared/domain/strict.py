"""Build frozen dataclasses from plain mappings (TOML, JSON) and refuse what does not fit, by name.

One mechanism for every file and body that a person or another machine writes: unknown keys, missing
keys and wrong types are each an `InvalidConfig` that says where, what was expected and what was found.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from shared.domain.errors import InvalidConfig

T = TypeVar("T")
_LATER = "added after the format was first written"


def later(default: T) -> T:
    """A dataclass field that a format gained later: left out of the plain form while it has its default.

    So the digest and the signature of what was written before it existed stay what they were.
    """
    return dataclasses.field(default=default, metadata={_LATER: True})


def read_toml(path: Path, kind: type[T]) -> T:
    """Read the TOML file at `path` as a `kind` dataclass. Raises InvalidConfig."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidConfig(f"There is no file {path}. Nothing was read. Check the path.") from error
    except IsADirectoryError as error:
        raise InvalidConfig(f"{path} is a folder. Nothing was read. Name a file in it.") from error
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise InvalidConfig(f"{path} cannot be read: {why}. Nothing was read. Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{path} is not TOML: {error}. Nothing was read. Correct the file.") from error
    return build(kind, table, path.name)


class _Misfit(Exception):
    """What does not fit, and what whoever wrote it can do."""

    def __init__(self, said: str, advice: str = "Correct this value.") -> None:
        super().__init__(said)
        self.said, self.advice = said, advice


def build(kind: type[T], value: Any, where: str, advice: str = "") -> T:
    """`value` as an instance of `kind` (dataclass, enum, scalar, tuple, mapping or union of those).

    Raises InvalidConfig: what does not fit, and numbers that are infinite or none, which JSON cannot carry. It ends in
    `advice` where whoever reads it is not who wrote the value.
    """
    try:
        return typing.cast(T, _convert(kind, value, where))
    except _Misfit as misfit:
        raise InvalidConfig(
            f"{misfit.said} Nothing was read. {advice or misfit.advice}"
        ) from misfit.__cause__


def to_plain(value: Any) -> Any:
    """A dataclass as dicts, lists and scalars: the inverse of `build`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: to_plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not (f.metadata.get(_LATER) and getattr(value, f.name) == f.default)
        }
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def _convert(kind: Any, value: Any, where: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise _Misfit(f"{where}: expected a finite number, found {value}.")
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if hasattr(kind, "__supertype__"):  # typing.NewType
        return _convert(kind.__supertype__, value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(typing.get_args(kind), value, where)
    if origin is tuple:
        return _convert_tuple(kind, value, where)
    if origin is not None and issubclass(origin, Mapping):
        return _convert_mapping(kind, value, where)
    if dataclasses.is_dataclass(kind):
        return _convert_dataclass(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _convert_enum(kind, value, where)
    return _convert_scalar(kind, value, where)


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    errors = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert(option, value, where)
        except _Misfit as error:
            errors.append(error)
    raise errors[-1]


def _convert_tuple(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _Misfit(f"{where}: expected a list, found {_name(value)}.")
    arguments = typing.get_args(kind)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(arguments) != len(value):
        raise _Misfit(f"{where}: expected {len(arguments)} items, found {len(value)}.")
    return tuple(
        _convert(kind_, item, f"{where}[{i}]")
        for i, (kind_, item) in enumerate(zip(arguments, value, strict=True))
    )


def _convert_mapping(kind: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _Misfit(f"{where}: expected a table, found {_name(value)}.")
    item_kind = typing.get_args(kind)[1]
    return {str(key): _convert(item_kind, item, f"{where}.{key}") for key, item in value.items()}


def _convert_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _Misfit(f"{where}: expected a table, found {_name(value)}.")
    hints = _hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in value:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            advice = f"Did you mean '{close[0]}'?" if close else f"Use one of: {', '.join(fields)}."
            raise _Misfit(f"{where}: unknown key '{key}'.", advice)
    built = {}
    for name, field in fields.items():
        if name in value:
            built[name] = _convert(hints[name], value[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise _Misfit(f"{where}: the key '{name}' is missing.", "Add it.")
    return kind(**built)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _convert_enum(kind: type[enum.Enum], value: Any, where: str) -> enum.Enum:
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(repr(member.value) for member in kind)
        raise _Misfit(f"{where}: expected one of {known}, found {value!r}.") from error


def _convert_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise _Misfit(f"{where}: expected a number, found one too large.") from error
    if kind is int and isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise _Misfit(f"{where}: expected a whole number of at most 64 bits, found a longer one.")
    fits = isinstance(kind, type) and isinstance(value, kind)
    if fits and not (isinstance(value, bool) and kind is not bool):
        return value
    raise _Misfit(f"{where}: expected {_label(kind)}, found {_name(value)}.")


def _label(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _name(value: Any) -> str:
    return f"{value!r}" if isinstance(value, (int, float, str, bool)) else type(value).__name__
