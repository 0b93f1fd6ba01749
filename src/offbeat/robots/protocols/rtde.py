"""Real-Time Data Exchange, the data interface of Universal Robots' controllers (TCP port 30004), as bytes.

    package   | size, 2 bytes | kind, 1 byte | payload     the size counts all of it; numbers are big-endian
    recipe    fields by name that the two sides agree on first; a data package is a recipe's number and its values

A client asks for the version, names the fields it wants (`OUTPUTS`) and those it will write (`INPUTS`), and starts.
Source: Universal Robots, "Real-Time Data Exchange (RTDE) Guide", protocol version 2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Any

PORT = 30004
VERSION = 2
NOT_FOUND, IN_USE = "NOT_FOUND", "IN_USE"
"""Instead of a type: there is no such field; another client writes it."""


class Kind(IntEnum):
    """What a package is; an answer is of the kind of its request."""

    VERSION = ord("V")
    CONTROLLER = ord("v")
    DATA = ord("U")
    OUTPUTS = ord("O")
    INPUTS = ord("I")
    START = ord("S")
    PAUSE = ord("P")


_HEADER = struct.Struct(">HB")
_FREQUENCY = struct.Struct(">d")

TYPES: Mapping[str, str] = MappingProxyType(
    {
        "UINT8": "B",
        "INT32": "i",
        "UINT32": "I",
        "UINT64": "Q",
        "DOUBLE": "d",
        "VECTOR3D": "3d",
        "VECTOR6D": "6d",
        "VECTOR6INT32": "6i",
    }
)
"""The types of fields, as `struct` writes them."""

_REGISTERS = 48


def _fields(**names: str) -> dict[str, str]:
    """Types of fields from their names by type; "int_register_*" stands for all of them."""
    fields: dict[str, str] = {}
    for kind, listed in names.items():
        for name in listed.split():
            numbered = [name.replace("*", str(i)) for i in range(_REGISTERS)] if "*" in name else [name]
            fields |= dict.fromkeys(numbered, kind)
    return fields


OUTPUTS: Mapping[str, str] = MappingProxyType(
    _fields(
        DOUBLE="timestamp actual_execution_time speed_scaling target_speed_fraction actual_momentum "
        "actual_main_voltage actual_robot_voltage actual_robot_current standard_analog_input0 standard_analog_input1 "
        "standard_analog_output0 standard_analog_output1 payload output_double_register_*",
        VECTOR3D="actual_tool_accelerometer payload_cog",
        VECTOR6D="target_q target_qd target_qdd target_current target_moment actual_q actual_qd actual_current "
        "actual_current_as_torque joint_control_output actual_TCP_pose actual_TCP_speed actual_TCP_force "
        "target_TCP_pose target_TCP_speed joint_temperatures actual_joint_voltage ft_raw_wrench payload_inertia",
        INT32="robot_mode safety_mode output_int_register_*",
        UINT32="runtime_state robot_status_bits safety_status_bits",
        UINT64="actual_digital_input_bits actual_digital_output_bits",
        VECTOR6INT32="joint_mode",
    )
)
"""Types of the fields that a controller writes."""

INPUTS: Mapping[str, str] = MappingProxyType(
    _fields(
        UINT8="standard_digital_output_mask standard_digital_output configurable_digital_output_mask "
        "configurable_digital_output tool_digital_output_mask tool_digital_output standard_analog_output_mask "
        "standard_analog_output_type",
        UINT32="speed_slider_mask",
        DOUBLE="speed_slider_fraction standard_analog_output_0 standard_analog_output_1 input_double_register_*",
        VECTOR6D="external_force_torque",
        INT32="input_int_register_*",
    )
)
"""Types of the fields that a client writes."""


class Recipe:
    """Fields by name and how their values lie in a data package."""

    def __init__(self, number: int, names: Sequence[str], types: Sequence[str]) -> None:
        """number: by which data packages name it. types: one of `TYPES` each."""
        self.number, self.names = number, tuple(names)
        codes = [TYPES[kind] for kind in types]
        self._counts = [int(code[:-1] or 1) for code in codes]
        self._layout = struct.Struct(">B" + "".join(codes))
        self._zeros = [(0,) * count for count in self._counts]

    def pack(self, values: Mapping[str, Sequence[Any]]) -> bytes:
        """A data package, header and all; fields without a value are 0."""
        flat: list[Any] = []
        for name, zeros in zip(self.names, self._zeros, strict=True):
            flat += values.get(name, zeros)
        return package(Kind.DATA, self._layout.pack(self.number, *flat))

    def unpack(self, payload: bytes) -> dict[str, tuple[Any, ...]]:
        """The values of a data package by field. Raises: struct.error when it has another length."""
        flat = self._layout.unpack(payload)[1:]
        values, at = {}, 0
        for name, count in zip(self.names, self._counts, strict=True):
            values[name] = flat[at : at + count]
            at += count
        return values


def package(kind: int, payload: bytes) -> bytes:
    """A package, header and all."""
    return _HEADER.pack(_HEADER.size + len(payload), kind) + payload


def take_packages(stream: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take whole packages (kind, payload) from the front of what has arrived. Raises: ValueError when it is no RTDE."""
    while len(stream) >= _HEADER.size:
        size, kind = _HEADER.unpack_from(stream)
        if size < _HEADER.size:
            raise ValueError(f"a package of {size} bytes")
        if len(stream) < size:
            return
        payload = bytes(stream[_HEADER.size : size])
        del stream[:size]
        yield kind, payload


def read_setup(kind: int, payload: bytes) -> tuple[float, list[str]]:
    """What a client asks for: packages a second (Hz; 0.0 for inputs) and names of fields. Raises: struct.error."""
    frequency_hz, names = 0.0, payload
    if kind == Kind.OUTPUTS:
        (frequency_hz,) = _FREQUENCY.unpack_from(payload)
        names = payload[_FREQUENCY.size :]
    return frequency_hz, [name for name in names.decode("ascii", "replace").split(",") if name]
