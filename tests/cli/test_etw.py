"""Tests of `eliot-etw etw`."""

import sys
from xml.etree import ElementTree

import pytest

from eliot_etw.destinations import EtlFileDestination
from eliot_etw.etw import provider_guid, read_etl
from eliot_etw.etw._doctor import Finding

_etw = pytest.importorskip("eliot_etw.cli._etw")

NAME = "MyCompany.Shop"
GUID = "2945d9ce-9e18-5f09-d4be-77d7ffd90746"
ODD = 'a "b" & <c>%'


class TestInfo:
    """What to type."""

    def test_guid(self, call):
        """Scripts get the GUID alone."""
        assert (0, f"{GUID}\n", "") == call("etw", "info", NAME, "--guid")

    def test_tools(self, call):
        """Each tool has its lines, and what is recorded is read in the same way."""
        status, output, errors = call("etw", "info", NAME)
        assert (0, "") == (status, errors)
        lines = [line.strip() for line in output.splitlines()]
        assert lines[0] == f"{NAME} has the GUID {GUID}"
        for line in [
            f'logman start {NAME} -p "{{{GUID}}}" 0xFFFFFFFFFFFFFFFF 5 -o {NAME}.etl -ets',
            f"logman stop {NAME} -ets",
            f'tracelog -start {NAME} -guid "*{NAME}" -level 5 -f {NAME}.etl',
            f"tracelog -stop {NAME}",
            f"wpr -start {NAME}.wprp -filemode",
            f"wpr -stop {NAME}.etl",
            f'PerfView "/OnlyProviders=*{NAME}" /Zip:false /DataFile:{NAME}.etl start',
            "PerfView stop",
            f"tracerpt {NAME}.etl -o {NAME}.xml -of XML -y",
            f"eliot-etw tree {NAME}.etl",
        ]:
            assert line in lines

    def test_odd_name(self, call):
        """What a shell might take for something else is in no line that is typed."""
        _, *lines = call("etw", "info", ODD)[1].splitlines()
        commands = [line for line in lines if line.startswith("  ")]
        assert len(commands) == 13
        assert not any(char in line for line in commands for char in "&<>%")
        assert f'"#{provider_guid(ODD)}"' in "".join(commands)

    @pytest.mark.parametrize("name", ["", "a\0", "ß", "a\x1b"])
    def test_no_name(self, call, name):
        """A name that no provider can have is a wrong call."""
        status, output, errors = call("etw", "info", name)
        assert (2, "", 1) == (status, output, len(errors.splitlines()))
        assert "a provider's name must" in errors


class TestProfile:
    """The files for wpr and wpa."""

    @staticmethod
    def made(call, folder, *arguments):
        """Make the files; return them parsed, by the ends of their names."""
        status, output, errors = call("etw", "profile", *arguments, "-o", folder)
        files = output.splitlines()
        assert (0, sorted(files)) == (status, sorted(map(str, folder.iterdir())))
        return {path.suffix: ElementTree.parse(path) for path in folder.iterdir()}, errors

    @pytest.mark.parametrize("name", [NAME, ODD])
    def test_wpr(self, call, tmp_path, name):
        """The profile asks for all events of the provider, to a file or to memory."""
        files, errors = self.made(call, tmp_path, name)
        assert "Name your types of actions by --type" in errors
        profiles = files[".wprp"].getroot().find("Profiles")
        assert ["EventCollector", "EventProvider", "Profile", "Profile"] == [
            element.tag for element in profiles
        ]
        collector, provider, *modes = profiles
        assert name == collector.get("Name")
        assert (str(provider_guid(name)), "5") == (provider.get("Name"), provider.get("Level"))
        for mode in modes:
            parts = [mode.get(key) for key in ("Name", "DetailLevel", "LoggingMode")]
            assert mode.get("Id") == ".".join(parts)
            (used,) = mode.iter("EventCollectorId")
            (source,) = used.iter("EventProviderId")
            assert (collector.get("Id"), provider.get("Id")) == (
                used.get("Value"),
                source.get("Value"),
            )
        assert ["File", "Memory"] == [mode.get("LoggingMode") for mode in modes]

    def test_regions_match_what_is_written(self, call, tmp_path):
        """Regions name events, opcodes and fields as the events of actions have them."""
        kinds = ["shop:order", 'odd "type" & %d <x>']
        options = [word for kind in [*kinds, kinds[0]] for word in ("--type", kind)]
        files, errors = self.made(call, tmp_path, NAME, *options)
        assert "" == errors
        regions = list(files[".xml"].getroot().iter("Region"))
        always = ["eliot:remote_task", "eliot:action"]
        assert [*kinds, *always] == [region.get("Name") for region in regions]
        assert len({region.get("Guid") for region in regions}) == 4
        trace = tmp_path / "x.etl"
        destination = EtlFileDestination(trace, provider_name=NAME)
        for region in regions:
            place = {"task_uuid": region.get("Guid"), "timestamp": 1.5}
            for level, status in [([1], "started"), ([2], "succeeded")]:
                destination({**place, "task_level": level, "action_status": status,
                             "action_type": region.get("Name")})  # fmt: skip
        destination.close()
        events = iter(list(read_etl(trace)))
        for region in regions:
            values = set()
            for end in ("Start", "Stop"):
                event, shown = next(events), region.find(f"{end}/Event")
                decoded = event.decode().as_dict()
                assert shown.get("Provider") == f"{{{event.provider_id}}}"
                assert shown.get("Name") == event.decode().name
                assert shown.get("Opcode") == str(event.opcode)
                values.add(decoded[region.find("Match/Event/Payload").get("FieldName")])
                naming = region.find("Naming/PayloadBased").get("NameField")
                assert decoded[naming] == region.get("Name")
            assert 1 == len(values)

    def test_existing_file(self, call, tmp_path):
        """What is there, and may have been changed, is kept."""
        (tmp_path / f"{NAME}.wprp").write_text("mine")
        status, output, errors = call("etw", "profile", NAME, "-o", tmp_path)
        assert (2, "", 1) == (status, output, len(errors.splitlines()))
        assert f"{NAME}.wprp is there already; remove it" in errors
        assert "mine" == (tmp_path / f"{NAME}.wprp").read_text()

    def test_no_folder(self, call, tmp_path):
        """A folder that is not there is a wrong call."""
        status, _, errors = call("etw", "profile", NAME, "-o", tmp_path / "none")
        assert (2, 1) == (status, len(errors.splitlines()))

    @pytest.mark.parametrize("kind", ["", "a\n"])
    def test_no_type(self, call, tmp_path, kind):
        """A type that XML cannot hold is a wrong call."""
        status, _, errors = call("etw", "profile", NAME, "--type", kind, "-o", tmp_path)
        assert (2, True) == (status, "must be the type of an action" in errors)
        assert [] == list(tmp_path.iterdir())


class TestDoctor:
    """Why nothing is recorded."""

    @pytest.mark.skipif(sys.platform == "win32", reason="is about other systems")
    def test_elsewhere(self, call):
        """Without Windows there is nothing to look at."""
        status, output, errors = call("etw", "doctor", NAME)
        assert (2, "", 1) == (status, output, len(errors.splitlines()))
        assert errors.startswith("eliot-etw: Event Tracing for Windows needs Windows, this is")

    @pytest.mark.parametrize("is_good", [True, False])
    def test_findings(self, call, monkeypatch, is_good):
        """Each finding is a line, with what to do about it below; one bad one is status 1."""
        findings = [Finding(True, "All is well."), Finding(is_good, "So\x1b it is.", "Do this.")]
        monkeypatch.setattr(_etw, "diagnose", lambda name: findings)
        monkeypatch.setattr(_etw.sys, "platform", "win32")
        status, output, errors = call("etw", "doctor", NAME)
        sign = "✓" if is_good else "✗"
        assert (0 if is_good else 1, "") == (status, errors)
        assert [
            "✓ All is well.",
            f"{sign} So\\x1b it is.",
            "  Do this.",
        ] == output.splitlines()


def test_no_verb(call):
    """Without a verb it says which there are."""
    status, output, errors = call("etw")
    assert (0, True, "") == (status, "  doctor   Find out" in output, errors)
