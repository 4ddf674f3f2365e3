"""Fields and parameters as data."""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field

from pipeline.doctor.fields import as_json, described_type, fields_of, parameters_of


class Cache(str, enum.Enum):  # noqa: UP042 - as TensorRT-LLM writes it
    PAGED = "paged"
    NONE = "none"


class Speculation(enum.IntFlag):
    OFF = 1
    ON = 2


class Inner(BaseModel):
    pass


class Model(BaseModel):
    size: int
    limit: int | None = 7
    plugin: Literal["auto", "fp8", None] | None = "auto"  # noqa: PYI061 - as it is there
    cache: Cache | None = None
    speculation: Speculation = Speculation.OFF
    inner: Inner = Field(default_factory=Inner)
    names: list[str] = Field(default_factory=list)
    flag: Annotated[bool, Field(description="x")] = True
    loose: Any = None


@dataclasses.dataclass
class Plain:
    size: int
    algo: Optional[Cache] = None  # noqa: UP045 - as TensorRT-LLM writes it
    clamp: list[float] | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)
    _own: int = 3


def test_a_pydantic_model() -> None:
    fields = fields_of(Model)
    assert fields["size"] == {"type": "int", "values": None, "default": None, "required": True}
    assert (fields["limit"]["type"], fields["limit"]["default"]) == ("int|null", 7)
    assert fields["plugin"]["type"] is None
    assert fields["plugin"]["values"] == ["auto", "fp8", None]
    assert fields["cache"]["type"] == "Cache|null"
    assert fields["cache"]["values"] == ["paged", "none"]
    assert fields["speculation"]["default"] == "OFF"
    assert fields["speculation"]["values"] == ["OFF", "ON"]
    assert fields["inner"]["default"] == "Inner()"
    assert (fields["names"]["type"], fields["names"]["default"]) == ("list[str]", [])
    assert (fields["flag"]["type"], fields["flag"]["default"]) == ("bool", True)


def test_a_dataclass() -> None:
    fields = fields_of(Plain)
    assert list(fields) == ["size", "algo", "clamp", "inner"]
    assert fields["size"]["required"] is True
    assert fields["algo"]["type"] == "Cache|null"
    assert fields["clamp"]["type"] == "list[float]|null"
    assert fields["inner"]["default"] == "Inner()"


def test_another_class_is_refused() -> None:
    with pytest.raises(TypeError, match="`Cache` is neither"):
        fields_of(Cache)


def test_parameters() -> None:
    def function(self: object, size: int, rank: int = 0, *rest: int, ep: int = -1, **more: int):
        """Nothing."""

    found = parameters_of(function)
    assert {name: (fact["required"], fact["default"]) for name, fact in found.items()} == {
        "size": (True, None),
        "rank": (False, 0),
        "ep": (False, -1),
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Cache.PAGED, "paged"),
        (Speculation.ON, "ON"),
        ((1, Cache.NONE), [1, "none"]),
        ({"a": Speculation.OFF}, {"a": "OFF"}),
        (Inner(), "Inner()"),
        (0.5, 0.5),
    ],
)
def test_values_as_json(value: object, expected: object) -> None:
    assert as_json(value) == expected


def test_a_type_with_arguments() -> None:
    assert described_type(dict[str, int | None]) == ("dict[str, int|null]", None)
    assert described_type(tuple[int, ...]) == ("tuple[int, ...]", None)
