"""A web service that asks another one: with OpenTelemetry and Eliot, or with either alone.

Run as a program, it prints its port, serves until its standard input ends, and gets its settings
as JSON: ``knows`` is ``both``, ``eliot`` or ``otel``; ``log`` is the file for messages, ``spans``
where OpenTelemetry sends spans to, and ``tree`` where Eliot does.
"""

import json
import logging
import socket
import sys
from contextlib import nullcontext
from threading import Thread

import httpx
import uvicorn
from fastapi import FastAPI, Request
from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool

from eliot_etw import Action, add_destinations, current_action, start_action, to_file
from eliot_etw.destinations import OtlpDestination

TASK_ID = "x-eliot-task-id"


def make_app(knows):
    """Make the service; it logs by Eliot unless it knows OpenTelemetry alone."""
    app = FastAPI()
    engine = create_engine("sqlite://", poolclass=StaticPool)
    logger = logging.getLogger("shop")

    def action(name, request):
        if knows == "otel":
            return nullcontext()
        task_id = request.headers.get(TASK_ID)
        if knows == "eliot" and task_id:
            return Action.continue_task(task_id=task_id, action_type=name)
        return start_action(action_type=name)

    @app.get("/order")
    async def order(request: Request, at: str):
        with action("shop:order", request):
            with engine.connect() as connection:
                price = connection.execute(text("SELECT 3")).scalar()
            headers = {}
            if knows == "eliot":
                headers[TASK_ID] = current_action().serialize_task_id().decode()
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"{at}/stock", headers=headers)
            return {"price": price, "stock": answer.json()["stock"]}

    @app.get("/stock")
    async def stock(request: Request):
        with action("shop:stock", request), engine.connect() as connection:
            logger.warning("low on tea")
            return {"stock": connection.execute(text("SELECT 7")).scalar()}

    return app, engine


def instrument(app, engine, knows, spans, name):
    """Set OpenTelemetry up, with all its instrumentation that there is something for."""
    from opentelemetry import _logs, propagate, trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
    from opentelemetry.instrumentation.logging import LoggingInstrumentor
    from opentelemetry.instrumentation.requests import RequestsInstrumentor
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    tracing = TracerProvider(resource=Resource({"service.name": name}))
    logs = LoggerProvider()
    if knows == "both":
        from eliot_etw.opentelemetry import (
            EliotLogRecordProcessor,
            EliotPropagator,
            EliotSpanProcessor,
        )

        tracing.add_span_processor(EliotSpanProcessor())
        logs.add_log_record_processor(EliotLogRecordProcessor())
        propagate.set_global_textmap(EliotPropagator())
    tracing.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{spans}/v1/traces")))
    trace.set_tracer_provider(tracing)
    _logs.set_logger_provider(logs)
    FastAPIInstrumentor.instrument_app(app)
    HTTPXClientInstrumentor().instrument()
    RequestsInstrumentor().instrument()  # which the exporters make their requests with
    SQLAlchemyInstrumentor().instrument(engine=engine)
    LoggingInstrumentor().instrument()


def main(name, settings):
    """Serve until standard input ends."""
    knows = settings["knows"]
    app, engine = make_app(knows)
    if knows != "otel":
        to_file(settings["log"])
        add_destinations(OtlpDestination(endpoint=settings["tree"], service_name=name))
    if knows != "eliot":
        instrument(app, engine, knows, settings["spans"], name)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))

    def stop_at_the_end():
        sys.stdin.read()
        server.should_exit = True

    Thread(target=stop_at_the_end, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        server.run(sockets=[listening])


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
