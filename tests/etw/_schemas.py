"""Events of every kind, for Hypothesis."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from eliot_etw.etw import Field, FileTime, InType, OutType, Schema, SystemTime

# How long an example takes is a matter of what else the machine does.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def whole(bits, *, signed):
    """Return the numbers that fit into so many bits."""
    low = -(1 << bits - 1) if signed else 0
    return st.integers(low, low + (1 << bits) - 1)


def as_utf16(text):
    """Return a text with no two halves of one character side by side: UTF-16 has no such thing."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


ANYTHING = st.text(st.characters(), max_size=20)
UTF16 = ANYTHING.map(as_utf16)
# Of st.characters(codec="cp1252") the first draw takes seconds.
CP1252_TEXT = bytes(range(256)).decode("cp1252", "ignore")
CP1252 = st.sampled_from(CP1252_TEXT)
NO_NUL = st.characters(exclude_characters="\0")
NAMES = st.text(NO_NUL, max_size=5)
SIDS = st.builds(
    lambda revision, authority, rest: "-".join(["S", str(revision), authority, *map(str, rest)]),
    st.integers(0, 255),
    st.integers(0, (1 << 48) - 1).map(lambda n: str(n) if n < 1 << 32 else f"{n:#014x}"),
    st.lists(whole(32, signed=False), max_size=5),
)

# Every in type with each out type that changes what a value is.
VALUES = {
    (InType.UTF16_Z, 0): st.text(NO_NUL, max_size=20).map(as_utf16),
    (InType.ANSI_Z, 0): st.text(st.sampled_from(CP1252_TEXT[1:]), max_size=20),
    (InType.ANSI_Z, OutType.UTF8): st.text(NO_NUL, max_size=20),
    (InType.INT8, 0): whole(8, signed=True),
    (InType.UINT8, 0): whole(8, signed=False),
    (InType.UINT8, OutType.BOOLEAN): st.booleans(),
    (InType.INT8, OutType.BOOLEAN): st.booleans(),
    (InType.INT8, OutType.STRING): CP1252,
    (InType.UINT8, OutType.STRING): CP1252,
    (InType.INT16, 0): whole(16, signed=True),
    (InType.UINT16, 0): whole(16, signed=False),
    (InType.UINT16, OutType.STRING): st.characters(max_codepoint=0xFFFF),
    (InType.UINT16, OutType.PORT): whole(16, signed=False),
    (InType.INT32, OutType.HRESULT): whole(32, signed=True),
    (InType.UINT32, OutType.PID): whole(32, signed=False),
    (InType.UINT32, OutType.IPV4): st.ip_addresses(v=4),
    (InType.INT64, 0): whole(64, signed=True),
    (InType.UINT64, 127): whole(64, signed=False),
    (InType.FLOAT32, 0): st.floats(width=32, allow_nan=False),
    (InType.FLOAT64, 0): st.floats(allow_nan=False),
    (InType.BOOL32, 0): st.booleans(),
    (InType.BINARY, 0): st.binary(max_size=20),
    (InType.BINARY, OutType.IPV6): st.ip_addresses(v=6) | st.binary(max_size=15),
    (InType.GUID, 0): st.uuids(),
    (InType.POINTER, 0): whole(32, signed=False),
    (InType.FILETIME, OutType.DATETIME_UTC): whole(64, signed=False).map(FileTime),
    (InType.SYSTEMTIME, 0): st.builds(SystemTime, *[whole(16, signed=False)] * 8),
    (InType.SID, 0): SIDS,
    (InType.HEX_INT32, 0): whole(32, signed=False),
    (InType.HEX_INT64, OutType.CODE_POINTER): whole(64, signed=False),
    (InType.UTF16, OutType.JSON): UTF16,
    (InType.ANSI, 0): st.text(CP1252, max_size=20),
    (InType.ANSI, OutType.UTF8): ANYTHING,
    (InType.ANSI, OutType.JSON): ANYTHING,
    (InType.COUNTED_BINARY, 0): st.binary(max_size=20),
}

TAGS = st.sampled_from([0, 0, 1, 0x80, 0x4000, 0x20_0000, 0x0FFF_FFFF])
SHAPES = st.sampled_from(
    [{}, {}, {"is_array": True}, {"fixed_count": 1}, {"fixed_count": 3}],
)


@st.composite
def fields(draw, depth=0):
    """Draw a field, or a struct of fields."""
    name, tags, shape = draw(NAMES), draw(TAGS), draw(SHAPES)
    if depth < 3 and draw(st.integers(0, 3)) == 0:
        members = draw(st.lists(fields(depth + 1), min_size=1, max_size=3))
        return Field(name, InType.STRUCT, tags=tags, members=tuple(members), **shape)
    in_type, out_type = draw(st.sampled_from(list(VALUES)))
    if draw(st.integers(0, 9)) == 0:
        return Field(name, in_type, out_type, tags, custom=draw(st.binary(max_size=5)))
    return Field(name, in_type, out_type, tags, **shape)


def is_char(field):
    """Say whether a field holds single characters."""
    sizes = (InType.INT8, InType.UINT8, InType.UINT16)
    return field.in_type in sizes and field.out_type == OutType.STRING


def values_of(field):
    """Return the values that a field can have."""
    if field.custom is not None:
        return st.binary(max_size=5)
    is_text = is_char(field) and (field.is_array or field.fixed_count)
    if field.in_type == InType.STRUCT:
        element = st.tuples(*map(values_of, field.members))
    elif is_text:
        # As many characters as units of 16 bits.
        wide = st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])
        element = wide if field.in_type == InType.UINT16 else CP1252
    else:
        element = VALUES[field.in_type, field.out_type]
    if not field.is_array and not field.fixed_count:
        return element
    low, high = (0, 4) if field.is_array else [field.fixed_count] * 2
    many = st.lists(element, min_size=low, max_size=high)
    return many.map("".join) if is_text else many


@st.composite
def events(draw):
    """Draw a schema and values for it."""
    drawn = draw(st.lists(fields(), max_size=5))
    schema = Schema(draw(NAMES), tuple(drawn), draw(TAGS))
    return schema, draw(st.tuples(*map(values_of, schema.fields)))
