"""Three services that ship to one collector: what the tests of such a system start.

    python -m tests._order_system NAME COLLECTOR REDIS [STOCK]

The ``shop`` is asked over HTTP and asks ``stock`` over ZeroMQ, which leaves work in a queue of
Redis for ``mail``, which calls the shop back over HTTP. Each prints where it is, and ends when its
standard input does; then it prints what became of its messages, by what shipped them.
"""

import json
import logging
import sys
from contextlib import closing
from socketserver import ThreadingMixIn
from threading import Event, Thread
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from eliot_etw import (
    Action,
    ActionType,
    Field,
    MessageType,
    add_destinations,
    current_action,
    fields,
    log_call,
)
from eliot_etw.destinations import ZmqDestination
from eliot_etw.executors import ThreadPoolExecutor
from eliot_etw.http import RequestsAdapter, WsgiMiddleware
from eliot_etw.stdlib import EliotHandler, ZmqHandler

ITEM = Field("item", str.upper, "What is ordered, as it is written on boxes.")
ORDER = ActionType("shop:order", [ITEM], fields(price=int), "Somebody orders something.")
RESERVE = ActionType("stock:reserve", [ITEM], fields(left=int), "A thing is put aside.")
SEND = ActionType("mail:send", [ITEM], [], "Somebody is told.")
COUNTED = MessageType("stock:counted", fields(shelf=int, count=int), "A shelf was looked at.")
JOBS = "jobs"
_PATIENCE_S = 60


def task_id():
    """Take a place in the current action, to go on at elsewhere."""
    return current_action().serialize_task_id().decode()


class Shop:
    """The service that is asked over HTTP."""

    def __init__(self, stock):
        self._stock = stock
        self._sent = Event()

    def app(self, environ, start_response):
        """Answer a request."""
        if environ["PATH_INFO"] == "/sent":
            logging.getLogger("shop").info("the mail is sent")
            self._sent.set()
        else:
            self.order("tea")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    def order(self, item):
        """Order something, and wait until the mail about it is sent."""
        with ORDER(item=item) as action, ThreadPoolExecutor(2) as pool:
            prices = pool.map(self.price, ["us", "them"])
            answer = self.ask_stock(item)
            logging.getLogger("shop").warning("%d left", answer["left"], extra={"item": item})
            action.add_success_fields(price=min(prices))
            assert self._sent.wait(_PATIENCE_S)

    @staticmethod
    @log_call(action_type="shop:price")
    def price(seller):
        """Find a price, in another thread."""
        return len(seller)

    def ask_stock(self, item):
        """Ask the next service."""
        import zmq

        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.linger = 0
            socket.rcvtimeo = _PATIENCE_S * 1000
            socket.connect(self._stock)
            socket.send_json({"task_id": task_id(), "item": item})
            return socket.recv_json()


def run_shop(ended, redis, stock):
    """Serve until the end."""

    class Quiet(WSGIRequestHandler):
        def log_message(self, *arguments):
            pass

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = False

    app = WsgiMiddleware(Shop(stock).app)
    with make_server("127.0.0.1", 0, app, Server, Quiet) as server:
        redis.set("shop", f"http://127.0.0.1:{server.server_port}")
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        ended.wait()
        server.shutdown()
        thread.join()


def run_stock(ended, redis):
    """Put things aside for who asks over ZeroMQ, and leave the rest to others."""
    import zmq

    def count(shelf):
        COUNTED.log(shelf=shelf, count=shelf * 3)
        return shelf * 3

    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        print(f"tcp://127.0.0.1:{port}", flush=True)
        while not ended.is_set():
            if not socket.poll(50):
                continue
            asked = socket.recv_json()
            with (
                Action.continue_task(task_id=asked["task_id"], action_type="stock:asked"),
                RESERVE(item=asked["item"]) as action,
            ):
                with ThreadPoolExecutor(3) as pool:
                    left = sum(pool.map(count, range(3)))
                logging.getLogger("stock").info("low on %s", asked["item"])
                redis.lpush(JOBS, json.dumps({"task_id": task_id(), "item": asked["item"]}))
                action.add_success_fields(left=left)
            socket.send_json({"left": left})


def run_mail(ended, redis):
    """Do what is in the queue."""
    import requests

    print("ready", flush=True)
    with closing(requests.Session()) as session:
        session.trust_env = False
        session.mount("http://", RequestsAdapter(requests.adapters.HTTPAdapter()))
        while not ended.is_set():
            popped = redis.brpop(JOBS, timeout=1)
            if popped is None:
                continue
            job = json.loads(popped[1])
            with (
                Action.continue_task(task_id=job["task_id"], action_type="mail:job"),
                SEND(item=job["item"]),
            ):
                try:
                    raise LookupError("no such customer: Zoë ☃")
                except LookupError:
                    logging.getLogger("mail").exception("sent to the office")
                session.get(f"{redis.get('shop').decode()}/sent", timeout=_PATIENCE_S)


def main():
    """Be one of the services."""
    from redis import Redis

    name, collector, redis, *more = sys.argv[1:]
    destination = ZmqDestination(collector, exit_timeout_s=_PATIENCE_S)
    add_destinations(destination)
    # One of them ships its records by themselves.
    handler = ZmqHandler(collector) if name == "stock" else EliotHandler()
    logging.getLogger().addHandler(handler)
    logging.getLogger(name).setLevel(logging.INFO)
    ended = Event()

    def watch():
        sys.stdin.read()
        ended.set()

    Thread(target=watch, daemon=True).start()
    with closing(Redis.from_url(redis)) as connection:
        globals()[f"run_{name}"](ended, connection, *more)
    shipping = [destination, *([handler.destination] if name == "stock" else [])]
    for each in shipping:
        each.flush(_PATIENCE_S)
    print(json.dumps([each.stats() for each in shipping]))


if __name__ == "__main__":
    main()
