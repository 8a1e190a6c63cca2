"""Messages in the journal of systemd."""

from __future__ import annotations

from typing import final

from eliot_etw.collector.sinks.destination import DestinationSink


@final
class JournaldSink(DestinationSink):
    """Writes each message as one entry of the journal, as `JournaldDestination` does.

    If the journal is full or gone, messages wait. The journal cannot tell what it has: messages
    whose acknowledgement was lost when the collector ended are in it twice.
    """

    def __init__(
        self,
        identifier: str = "eliot-etw",
        sentences: bool = False,
        index_fields: bool = False,
        namespace: str | None = None,
        socket_path: str | None = None,
    ) -> None:
        """Check the settings, and connect, if the journal is there.

        Args:
            identifier: What ``SYSLOG_IDENTIFIER`` says.
            sentences: Whether ``MESSAGE`` is a line for people, and the JSON in ``ELIOT_MESSAGE``.
            index_fields: Whether messages' own fields are fields of the journal too.
            namespace: The journal's namespace, if it is not that of the system.
            socket_path: Where the journal listens, if it is not the usual place.

        Raises:
            InvalidSettings: If both a namespace and a path are given.
        """
        super().__init__(
            {
                "kind": "journald",
                "identifier": identifier,
                "sentences": sentences,
                "index_fields": index_fields,
                "namespace": namespace,
                "socket_path": socket_path,
            }
        )
