"""Print what dissect.etl reads in a trace. Its licence is another one: a program of its own."""

import json
import sys

from dissect.etl import ETL


def main(path):
    """Print time, ids and extended items of each event."""
    found = []
    with open(path, "rb") as file:
        trace = ETL(file)
        for record in trace:
            header = record.header
            if hasattr(header, "header_extensions"):
                items = {}
                for item in header.header_extensions:
                    items.setdefault(int(item.ext_type), bytes(item.raw_data).hex())
                found.append(
                    {
                        "ticks": trace.get_filetime_for_event(header.time_delta),
                        "provider": bytes(header.header.ProviderId).hex(),
                        "activity": str(header.activity_id),
                        "opcode": header.opcode,
                        "thread": header.thread_id,
                        "related": items.get(1),
                        "schema": items.get(11),
                        "traits": items.get(12),
                    }
                )
    print(json.dumps(found))


main(sys.argv[1])
