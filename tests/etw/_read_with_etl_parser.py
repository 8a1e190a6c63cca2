"""Print what etl-parser reads in a trace."""

import json
import sys
from types import ModuleType

# What it knows of Windows's own providers takes four seconds to import, and is of no use here.
core = ModuleType("etl.parsers.etw.core")
core.Etw = core.Guid = core.build_etw = None
sys.modules["etl.parsers.etw"] = ModuleType("etl.parsers.etw")
sys.modules["etl.parsers.etw.core"] = core

from etl.etl import IEtlFileObserver, build_from_stream  # noqa: E402 - see above


class Printer(IEtlFileObserver):
    """Collects the fields of each TraceLogging event."""

    def __init__(self):
        self.found = []

    def on_event_record(self, event):
        """Decode an event."""
        fields = event.parse_tracelogging()
        self.found.append(
            {
                "process": event.get_process_id(),
                "thread": event.get_thread_id(),
                "fields": {name: str(value) for name, value in fields.items()},
            }
        )

    def on_trace_record(self, event):
        """Leave out what is no TraceLogging event."""

    on_perfinfo_trace = on_system_trace = on_win_trace = on_trace_record


printer = Printer()
with open(sys.argv[1], "rb") as trace:
    build_from_stream(trace.read()).parse(printer)
print(json.dumps(printer.found))
