"""Tests of provider GUIDs."""

from uuid import UUID

import pytest

from eliot_etw.etw import provider_guid


@pytest.mark.parametrize(
    ("name", "guid"),
    [
        ("MySource", "a61ea624-4944-55fc-c2a8-37838829438d"),
        ("mysource", "a61ea624-4944-55fc-c2a8-37838829438d"),
        ("Microsoft-Diagnostics-DiagnosticSource", "adb401e1-5296-51f8-c125-5fda75826144"),
        ("Microsoft.Windows.WaaSMedic.Local", "30d25124-a468-505c-de82-8411646eb8b5"),
    ],
)
def test_providers_of_windows(name, guid):
    """The GUIDs are those found in traces, in whatever case the name is written."""
    assert UUID(guid) == provider_guid(name)


def test_perfview_can_tell_it_from_others():
    """The version is 5: PerfView's start-stop view looks at no other providers."""
    versions = {provider_guid(f"Provider{n}").bytes_le[7] >> 4 for n in range(20)}
    assert versions == {5}


@pytest.mark.parametrize("name", ["", "a\0b", 5, None])
def test_no_name(name):
    """A name that ETW cannot hold is refused."""
    with pytest.raises(ValueError, match=r"must be text without NUL, got .*Take a short one"):
        provider_guid(name)


@pytest.mark.parametrize("name", ["Straße", "a\ud800"])
def test_name_that_tools_disagree_on(name):
    """A name that has two forms in upper case, or none, would have two GUIDs."""
    with pytest.raises(ValueError, match=r"one form in upper case, got .*Use plain letters"):
        provider_guid(name)
