"""Which names code may say, whether in its source or in a string that names an attribute."""

from __future__ import annotations

from RestrictedPython.transformer import INSPECT_ATTRIBUTES

METHODS = frozenset(
    f"__{name}__"
    for name in """
        init new repr str eq ne lt le gt ge hash bool len length_hint iter next reversed contains getitem
        setitem delitem missing enter exit call getattr setattr delattr post_init format copy deepcopy get set
        set_name init_subclass class_getitem del int float complex index round trunc floor ceil neg pos abs invert
        add sub mul matmul truediv floordiv mod divmod pow lshift rshift and or xor
        radd rsub rmul rmatmul rtruediv rfloordiv rmod rdivmod rpow rlshift rrshift rand ror rxor
        iadd isub imul imatmul itruediv ifloordiv imod ipow ilshift irshift iand ior ixor bytes sizeof dir
    """.split()  # noqa: SIM905 - sixty words read better without quotes
)
"""Special methods that a class may define."""

RUNTIME_CHECKED = frozenset(
    {"format", "format_map", "register"}
    | {f"__{name}__" for name in ("class", "dict", "setattr", "delattr", "set", "set_name")}
)
"""Attributes whose value depends on a check at run time; all others are read natively."""

_ATTRIBUTES = (
    METHODS
    | RUNTIME_CHECKED
    | {"__name__", "__qualname__", "__doc__", "__module__", "__cause__", "__context__", "__notes__"}
)

_NAMES = METHODS | {
    "__name__", "__doc__", "__slots__", "__all__", "__version__", "__author__", "__debug__",
    "_missing_", "_generate_next_value_", "_ignore_", "_order_",
}  # fmt: skip

_ENUM_ATTRIBUTES = {
    "_missing_", "_generate_next_value_", "_ignore_", "_order_", "_value_", "_name_", "_member_names_",
    "_member_map_",
}  # fmt: skip
"""Of names with one underscore at both ends, `enum` has others that write into modules."""

_WRITABLE_ATTRIBUTES = {"__doc__", "__name__", "__cause__", "__context__"}


def is_forbidden_name(name: str) -> bool:
    """Names with an underscore at both ends are Python's own, or this sandbox's guards."""
    return name.startswith("_") and name.endswith("_") and bool(name.strip("_")) and name not in _NAMES


def refuses_pattern(name: str) -> bool:
    """Tell attributes that `case C(x)` may not read: a pattern's reads cannot be checked at run time."""
    return name in RUNTIME_CHECKED or is_forbidden_attribute(name)


def is_forbidden_attribute(name: str, *, written: bool = False) -> bool:
    """Tell special attributes, and those that lead to frames, code and base classes."""
    if name in INSPECT_ATTRIBUTES or name == "mro":
        return True
    if name.startswith("_") and name.endswith("_") and not name.startswith("__") and name.strip("_"):
        return name not in _ENUM_ATTRIBUTES
    if not (name.startswith("__") and name.endswith("__") and name.strip("_")):
        return False
    return name not in (_WRITABLE_ATTRIBUTES if written else _ATTRIBUTES)
