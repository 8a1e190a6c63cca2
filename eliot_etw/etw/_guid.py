"""A provider's GUID, from its name or as it is given."""

from hashlib import sha1
from uuid import UUID

_NAMESPACE = bytes.fromhex("482C2DB2C39047C887F81A15BFC130FB")


def provider_guid(name: str) -> UUID:
    """Make the GUID that all of ETW's tools make from a provider's name (``*name`` to them).

    >>> provider_guid("MySource")
    UUID('a61ea624-4944-55fc-c2a8-37838829438d')

    Args:
        name: What the provider is called; upper and lower case give the same.

    Raises:
        ValueError: If the name is empty, has a NUL in it, or a character of which there is more
            than one opinion what it is in upper case, such as ``ß``.

    Source:
        .NET's `EventSource` and Microsoft's TraceLogging: SHA-1 of a namespace and of the name in
        upper case as UTF-16BE, with 5 for the version. Nearly a UUIDv5 of RFC 9562.
    """
    checked_name(name)
    text = name.upper().encode("utf-16-be")
    digest = bytearray(sha1(_NAMESPACE + text, usedforsecurity=False).digest()[:16])
    digest[7] = digest[7] & 0x0F | 0x50
    return UUID(bytes_le=bytes(digest))


def as_guid(guid: UUID | str) -> UUID:
    """Return a GUID, which may be given as text, as tools show it.

    Raises:
        ValueError: If it is none.
    """
    try:
        return guid if isinstance(guid, UUID) else UUID(guid)
    except (AttributeError, TypeError, ValueError):
        msg = (
            f"what stands for a provider or a group must be a GUID, got {guid!r}. "
            "Pass a UUID, or its text."
        )
        raise ValueError(msg) from None


def checked_name(name: str) -> str:
    """Return the name of a provider if all tools can work with it.

    Raises:
        ValueError: If not; `provider_guid` says what is wrong with it.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        msg = (
            f"a provider's name must be text without NUL, got {name!r}. "
            "Take a short one that is unique, such as 'MyCompany.MyProgram'."
        )
        raise ValueError(msg)
    unclear = [char for char in name if len(char.upper()) > 1 or "\ud800" <= char <= "\udfff"]
    if unclear:
        msg = (
            f"a provider's name must have one form in upper case, got {name!r} with "
            f"{unclear[0]!r}. Use plain letters: tools would disagree on its GUID."
        )
        raise ValueError(msg)
    return name
