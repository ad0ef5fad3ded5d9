"""What a compiled program moves, read from its text (optimised HLO): bytes to and from the device's
memory, and bytes between devices.

The compiler's own cost analysis counts the body of a loop once, whatever its trip count; here every
computation is counted as often as it runs. An operation reads its operands and writes its result,
with three refinements: a fusion that takes a slice of an operand reads the slice alone, one that
writes a slice into a buffer writes the slice alone, and what the compiler has put into the memory
on the chip (space 1, S(1) in a layout) is not counted. Sizes are padded to the tiles of the layout.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BITS = {
    "pred": 8,
    "s4": 4,
    "u4": 4,
    "s8": 8,
    "u8": 8,
    "f8e4m3fn": 8,
    "f8e5m2": 8,
    "s16": 16,
    "u16": 16,
    "bf16": 16,
    "f16": 16,
    "s32": 32,
    "u32": 32,
    "f32": 32,
    "s64": 64,
    "u64": 64,
    "f64": 64,
    "c64": 64,
}
# They name or rename values, or only wait for what a `-start` has moved.
FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "iota",
    "partition-id",
    "replica-id",
    "optimization-barrier",
    "add-dependency",
    "domain",
}
KERNELS = ("tpu_custom_call", "__gpu$xla.gpu.triton")  # custom calls that read and write memory
FLAGS = 2  # memory space of the flags that tell when an exchange is done
SLICES = ("dynamic-slice", "slice", "gather")

_BUFFER = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^  (ROOT )?%?([\w.\-]+) = ")


@dataclass(frozen=True)
class Instruction:
    """One line of an HLO computation."""

    name: str
    opcode: str
    type: str  # of the result
    operands: tuple[str, ...]
    rest: str  # attributes; of a constant or parameter what stands in its parentheses
    root: bool


@dataclass(frozen=True)
class Exchange:
    """A kind of exchange between devices."""

    kind: str  # of `COLLECTIVES`
    group: int  # devices that exchange with one another
    in_loop: bool  # of the layers: there is arithmetic beside it
    # An all-to-all that is not started early: nothing runs beside it, in a loop either.
    alone: bool = False


@dataclass
class Moved:
    """Of one device, in one run of the program."""

    hbm_bytes: float = 0.0
    # Bytes that a device sends, as rings would: of the n devices of a group each sends (n - 1) / n
    # of the whole array, twice that for all-reduce.
    exchanged: dict[Exchange, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, other: "Moved", times: float = 1, loop: bool = False) -> None:
        """Adds another sum, so many times."""
        self.hbm_bytes += times * other.hbm_bytes
        for kind, count in other.exchanged.items():
            in_loop = (kind.in_loop or loop) and not kind.alone
            self.exchanged[replace(kind, in_loop=in_loop)] += times * count

    @property
    def collective_bytes(self) -> dict[str, float]:
        """{kind: bytes}"""
        total: dict[str, float] = defaultdict(float)
        for exchange, count in self.exchanged.items():
            total[exchange.kind] += count
        return dict(total)


def moved(text: str, devices: int) -> Moved:
    """What one run of a program moves.

    Args:
      text: `jax.stages.Compiled.as_text()`.
      devices: that the program runs on.

    Raises:
      ValueError: a loop whose trip count cannot be read, or exchanges in a computation that nothing
        that is known here calls.
    """
    program = _Program(text, devices)
    total = program.count(_Program.ENTRY)
    program.check_all_seen()
    return total


def buffers(type_text: str) -> list[tuple[int, int]]:
    """[(bytes, memory space)] of the arrays of a type, in order."""
    return [(_bytes(*match.groups()), _space(match[3])) for match in _BUFFER.finditer(type_text)]


def _space(layout: str | None) -> int:
    found = re.search(r"S\((\d+)\)", layout or "")
    return int(found[1]) if found else 0


def _bytes(dtype: str, dims: str, layout: str | None) -> int:
    sizes = [int(size) for size in dims.split(",")] if dims else []
    order, _, tiling = (layout or "").partition(":")
    tile = re.match(r"T\(([\d,]+)\)", tiling)
    if sizes and tile:
        sizes = [sizes[int(axis)] for axis in order.split(",")]  # from the fastest on
        for place, size in enumerate(reversed(tile[1].split(","))):
            if place < len(sizes):
                sizes[place] = -(-sizes[place] // int(size)) * int(size)
    return math.prod(sizes) * BITS.get(dtype, 0) // 8


def _hbm(type_text: str) -> int:
    return sum(size for size, space in buffers(type_text) if space == 0)


class _Program:
    ENTRY = "ENTRY"

    def __init__(self, text: str, devices: int):
        self.devices = devices
        self.computations: dict[str, dict[str, Instruction]] = {}
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            line = re.sub(r"/\*index=\d+\*/", "", line)
            if head := _HEAD.match(line):
                current = self.computations[head[2]] = {}
                if head[1]:
                    self.computations[self.ENTRY] = current
            elif found := _LINE.match(line):
                one = _instruction(found[2], line[found.end() :], bool(found[1]))
                current[one.name] = one
        self._counted: dict[str, Moved] = {}
        self._fused: set[str] = set()

    def count(self, name: str) -> Moved:
        """What a computation that is not fused moves in one run."""
        if name not in self._counted:
            total, body = Moved(), self.computations[name]
            for one in body.values():
                total.add(self._one(one, body))
            self._counted[name] = total
        return self._counted[name]

    def check_all_seen(self) -> None:
        """Raises ValueError for exchanges that were not counted."""
        seen = [self.computations[name] for name in (*self._counted, *self._fused)]
        for name, body in self.computations.items():
            kinds = {one.opcode.removesuffix("-start") for one in body.values()}
            missed = kinds.intersection(COLLECTIVES)
            if missed and not any(body is other for other in seen):
                raise ValueError(
                    f"{name}: its {', '.join(sorted(missed))} is called in a way that "
                    "is not known; add it to specialm/planning/hlo.py"
                )

    def _one(self, one: Instruction, body: dict[str, Instruction]) -> Moved:
        total, opcode = Moved(), one.opcode
        if opcode in FREE or opcode.endswith("-done"):
            return total
        if opcode == "while":
            total.add(self.count(_called(one, "body")), self._trips(one, body), True)
        elif opcode in ("call", "async-start", "call-start"):
            total.add(self.count(_called(one, "to_apply", "calls")))
        elif opcode == "conditional":
            branches = [self.count(branch) for branch in _branches(one)]
            total.add(max(branches, key=lambda moved: moved.hbm_bytes))
        elif opcode == "fusion":
            called = _called(one, "calls")
            fused = self.computations[called]
            self._fused.add(called)
            total.hbm_bytes = self._fusion_bytes(one, fused, body)
            # With a flag of another operation it only carries on what that has started.
            if not any(
                space == FLAGS for name in one.operands for _, space in buffers(body[name].type)
            ):
                # One of the two names says what it is; which, differs between chips.
                self._exchange(fused.values(), f"{one.name} {called}", fused, total)
        elif opcode == "custom-call":
            if any(kernel in one.rest for kernel in KERNELS):
                total.hbm_bytes = self._plain_bytes(one, body)
        else:
            total.hbm_bytes = self._plain_bytes(one, body)
            self._exchange([one], one.name, body, total)
        return total

    def _plain_bytes(self, one: Instruction, body: dict[str, Instruction]) -> int:
        """Of an operation by itself."""
        kind, written = one.opcode.removesuffix("-start"), _hbm(one.type)
        read = sum(_hbm(body[name].type) for name in one.operands)
        if one.opcode.endswith("-start"):  # its type names the operands again
            operands = sum(len(buffers(body[name].type)) for name in one.operands)
            results = buffers(one.type)[operands:]
            written = sum(size for size, space in results if space == 0)
            if kind in SLICES and read:  # the slice alone, if its source is not on the chip
                read = results[0][0]
            return written + read
        if kind in SLICES:
            return 2 * written
        if kind in ("dynamic-update-slice", "scatter"):
            update = body[one.operands[-1 if kind == "scatter" else 1]]
            return 2 * _hbm(update.type)
        return written + read

    def _fusion_bytes(self, one: Instruction, fused: dict, body: dict) -> int:
        parameters = {
            int(inner.rest): inner for inner in fused.values() if inner.opcode == "parameter"
        }
        read = sum(
            self._read(parameters[i], fused)
            for i, name in enumerate(one.operands)
            if _hbm(body[name].type)
        )
        root = next(inner for inner in fused.values() if inner.root)
        outputs = [fused[name] for name in root.operands] if root.opcode == "tuple" else [root]
        spaces = [space for _, space in buffers(one.type)]
        if len(outputs) != len(spaces):
            return read + _hbm(one.type)
        return read + sum(
            self._written(inner, fused)
            for inner, space in zip(outputs, spaces, strict=True)
            if space == 0
        )

    def _read(self, parameter: Instruction, fused: dict[str, Instruction]) -> int:
        """Bytes that a fusion reads of an operand: only slices, if it takes nothing else of it."""
        whole = sum(size for size, _ in buffers(parameter.type))
        total, names = 0, [parameter.name]
        while names:
            name = names.pop()
            for user in fused.values():
                if name not in user.operands:
                    continue
                if user.opcode == "bitcast":
                    names.append(user.name)
                elif user.opcode in SLICES and user.operands[0] == name:
                    total += sum(size for size, _ in buffers(user.type))
                elif user.opcode == "fusion":
                    inner = self.computations[_called(user, "calls")]
                    total += sum(
                        self._read(one, inner)
                        for one in inner.values()
                        if one.opcode == "parameter" and user.operands[int(one.rest)] == name
                    )
                elif not (user.opcode == "dynamic-update-slice" and user.operands[0] == name):
                    return whole  # an update is written in place
        return min(total, whole)

    def _written(self, one: Instruction, fused: dict[str, Instruction]) -> int:
        """Bytes that a fusion writes of a result: only the slice that it updates."""
        while one.opcode == "bitcast":
            one = fused[one.operands[0]]
        if one.opcode == "fusion":
            inner = self.computations[_called(one, "calls")]
            root = next(each for each in inner.values() if each.root)
            if root.opcode != "tuple":
                return self._written(root, inner)
        if one.opcode == "dynamic-update-slice":
            one = fused[one.operands[1]]
        return sum(size for size, _ in buffers(one.type))

    def _exchange(
        self, instructions: Iterable[Instruction], name: str, body: dict, total: Moved
    ) -> None:
        for one in instructions:
            kind = one.opcode.removesuffix("-start")
            if kind not in COLLECTIVES:
                continue
            size = _group_size(one.rest, self.devices)
            operands = sum(b for each in one.operands for b, _ in buffers(body[each].type))
            whole = operands
            if kind == "all-gather":  # the type of a start names the operands again
                started = one.opcode.endswith("-start")
                whole = sum(b for b, _ in buffers(one.type)) - started * operands
            # A fusion of a sum with the slice of it that is used sends as a reduce-scatter does.
            if kind == "all-reduce" and "scatter" in name:
                kind = "reduce-scatter"
            share = 1.0 if kind == "collective-permute" else (size - 1) / size
            sent = whole * share * (2 if kind == "all-reduce" else 1)
            total.exchanged[Exchange(kind, size, False, one.opcode == "all-to-all")] += sent

    def _trips(self, loop: Instruction, body: dict) -> int:
        if known := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest):
            return int(known[1])
        condition = self.computations[_called(loop, "condition")]
        test = next(one for one in condition.values() if one.root)
        while test.opcode in ("copy", "bitcast"):
            test = condition[test.operands[0]]
        first = body[loop.operands[0]]
        values = [_value(condition.get(name), condition, first, body) for name in test.operands]
        start, stop = values if len(values) == 2 else (None, None)
        is_less = test.opcode == "compare" and "direction=LT" in test.rest
        if start is None or stop is None or not is_less:
            raise ValueError(f"{loop.name}: no trip count in {test.opcode}{values} {test.rest}")
        return stop - start


def _value(one: Instruction | None, condition: dict, first: Instruction, body: dict) -> int | None:
    """The integer that a loop's condition sees at its first turn."""
    scope = condition
    while one is not None:
        if one.opcode == "constant":
            return int(one.rest.partition(")")[0])
        if one.opcode == "get-tuple-element" and scope is condition:
            index = re.search(r"index=(\d+)", one.rest)
            if index is None or first.opcode != "tuple":
                return None
            scope, one = body, body.get(first.operands[int(index[1])])
        elif one.opcode in ("copy", "bitcast", "copy-done", "copy-start"):
            one = scope.get(one.operands[0])
        else:
            return None
    return None


def _instruction(name: str, text: str, root: bool) -> Instruction:
    if text.startswith("("):
        end = _closing(text, 0) + 1
    else:
        end = text.index(" ")
    type_text, text = text[:end], text[end:].lstrip()
    opcode, _, _ = text.partition("(")
    close = _closing(text, len(opcode))
    inside, rest = text[len(opcode) + 1 : close], text[close + 1 :].lstrip(", ")
    if opcode in ("constant", "parameter"):
        return Instruction(name, opcode, type_text, (), inside, root)
    return Instruction(
        name, opcode, type_text, tuple(re.findall(r"%([\w.\-]+)", inside)), rest, root
    )


def _closing(text: str, opening: int) -> int:
    depth = 0
    for place in range(opening, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if not depth:
            return place
    raise ValueError(f"no closing parenthesis: {text[:80]}")


def _called(one: Instruction, *attributes: str) -> str:
    for attribute in attributes:
        if found := re.search(rf"\b{attribute}=%?([\w.\-]+)", one.rest):
            return found[1]
    raise ValueError(f"{one.opcode} {one.name} calls nothing: {one.rest[:80]}")


def _branches(one: Instruction) -> list[str]:
    if listed := re.search(r"branch_computations=\{([^}]*)\}", one.rest):
        return re.findall(r"%?([\w.\-]+)", listed[1])
    return [_called(one, "true_computation"), _called(one, "false_computation")]


def _group_size(rest: str, devices: int) -> int:
    """Devices that exchange something with one another."""
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return len(listed[1].split(","))
    if tiled := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", rest):
        return int(tiled[2])
    return devices
