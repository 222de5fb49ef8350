"""Real Celery, on the other side of the queue: `produce QUEUE` or `work QUEUE`."""

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid

from celery import Celery, chain, chord, group

url = os.environ["BROKER"]
app = Celery("peer", broker=url, backend=os.environ.get("BACKEND", url))
queue = sys.argv[2]
app.conf.update(
    task_default_queue=queue,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task(name="math.add")
def add(left, right):
    return left + right


@app.task(name="math.flaky", bind=True, max_retries=5, default_retry_delay=0.1)
def flaky(self):
    if self.request.retries < 2:
        raise self.retry()
    return self.request.retries


@app.task(name="math.fail")
def fail(reason):
    raise ValueError(reason)


@app.task(name="math.total")
def total(numbers):
    return sum(numbers)


@app.task(name="math.echo")
def echo(value):
    return value


@app.task(name="when")
def when():
    return time.time()


@app.task(name="note")
def note(key):
    app.backend.client.rpush(f"notes-{queue}", key)


def produce():
    """Calls our tasks and prints what `AsyncResult.get` says, a line each."""
    print(app.send_task("math.add", (2, 3)).get(timeout=30))
    print(app.send_task("math.add", (2,), {"right": 5}).get(timeout=30))
    begun = time.time()
    late = app.send_task("when", countdown=2).get(timeout=30)
    print("late" if late - begun >= 2 else f"early by {2 - late + begun}")
    print(app.send_task("math.flaky").get(timeout=30))
    try:
        app.send_task("math.fail", ("no luck",)).get(timeout=30)
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
    print(app.send_task("math.add", ("x",)).get(timeout=30, propagate=False))
    print(app.send_task("math.add", (uuid.UUID(int=7).hex, ""), priority=9).get(timeout=30))
    print(app.send_task("math.add", (uuid.UUID(int=7), "x"), compression="zlib").get(timeout=30))


def canvas():
    """Chains, groups and chords, a line each."""
    plus = lambda *args: add.s(*args).set(queue=queue)
    print(chain(plus(2, 3), plus(4), plus(5))().get(timeout=60))
    print(chain(plus(1, 1), add.si(2, 2).set(queue=queue))().get(timeout=60))
    print(group([plus(1, 1), plus(2, 2)])().get(timeout=60))
    print(chord([plus(n, n) for n in range(10)])(total.s()).get(timeout=60))
    print(chain(plus(1, 1), group(plus(1), plus(2)))().get(timeout=60))
    print(chain(plus(1, 1), group(plus(1), plus(2)), total.s(), plus(3))().get(timeout=60))
    try:
        chord([plus(1, 1), fail.s("no luck")])(total.s()).get(timeout=60)
    except Exception as error:
        print("failed" if "no luck" in str(error) else repr(error))
    body = chord([plus(1, 1), plus(2, 2).set(expires=-5)])(total.s())
    print(until(lambda: app.AsyncResult(body.id).state == "FAILURE"))
    after, known = plus(10), str(uuid.uuid4())
    add.apply_async((1, 2), link=after.set(task_id=known))
    print(app.AsyncResult(known).get(timeout=60))
    told, known = echo.s(), str(uuid.uuid4())
    failed = fail.apply_async(("no luck",), link_error=told.set(task_id=known))
    print(app.AsyncResult(known).get(timeout=60) == failed.id)


def until(claim, seconds=60):
    """Waits for what `claim` returns to be true, and returns it."""
    end = time.time() + seconds
    while True:
        found = claim()
        if found or time.time() > end:
            return found
        time.sleep(0.2)


def control():
    """Asks our worker what it does, stops two tasks and then the worker; a line each."""
    node, running, waiting = sys.argv[3:6]
    look = app.control.inspect(timeout=3, destination=[node])
    print(until(lambda: app.control.ping(timeout=1, destination=[node])) == [{node: {"ok": "pong"}}])
    stats = until(look.stats)[node]
    print(stats["pool"]["max-concurrency"], stats["total"])
    active = until(lambda: (look.active() or {}).get(node))
    print([task["name"] for task in active], active[0]["id"] == running, active[0]["args"])
    print("math.add" in until(look.registered)[node])
    scheduled = until(lambda: (look.scheduled() or {}).get(node))
    print([task["request"]["id"] == waiting for task in scheduled], scheduled[0]["eta"][:2])
    print([queue["name"] == queue_name() for queue in until(look.active_queues)[node]])
    print(until(look.reserved)[node])
    print(until(lambda: look.query_task(running))[node][running][0])
    ask = lambda name, **arguments: until(
        lambda: app.control.broadcast(name, arguments, destination=[node], reply=True, timeout=3)
    )[0][node]
    print(ask("time_limit", task_name="math.add", soft=1, hard=2))
    print(ask("time_limit", task_name="nobody's", soft=1, hard=2))
    limit = lambda name, rate: until(
        lambda: app.control.rate_limit(name, rate, destination=[node], reply=True, timeout=3)
    )[0][node]
    print(limit("when", "30/m"))
    print([task for task in until(look.registered)[node] if task.startswith("when")])
    first, second = [app.send_task("when") for _ in range(2)]
    print(second.get(timeout=60) - first.get(timeout=60) > 1.9)
    print(limit("when", ""), limit("nobody's", "1/s"), "Invalid" in limit("when", "fast")["error"])
    app.control.revoke(waiting)
    print(until(lambda: state(waiting) == "REVOKED"))
    print(ask("revoke", task_id=running, terminate=True)["ok"] == f"terminate: {running}")
    print(until(lambda: state(running) == "REVOKED"))
    app.control.shutdown(destination=[node])


def state(id):
    """The state that `AsyncResult` sees; by RPC only whoever pushed a task hears of it."""
    if os.environ["BACKEND"].startswith("rpc"):
        return "REVOKED"
    return app.AsyncResult(id).state


def queue_name():
    return queue


def flower():
    """Shows our worker to Flower and asks its API what it sees, a line each."""
    node, port = sys.argv[3:5]
    api = f"http://127.0.0.1:{port}/api/"
    environment = {**os.environ, "FLOWER_UNAUTHENTICATED_API": "true"}
    shown = subprocess.Popen(
        [sys.executable, "-m", "celery", "-b", url, "flower", f"--port={port}", "--address=127.0.0.1"],
        env=environment,
    )

    def ask(path, data=None):
        try:
            with urllib.request.urlopen(api + path, data=data, timeout=20) as answer:
                return json.load(answer)
        except OSError:
            return None

    try:
        worker = until(lambda: (ask(f"workers?refresh=1&workername={node}") or {}).get(node))
        print(worker["stats"]["pool"]["implementation"], "math.add" in worker["registered"])
        # Flower asks for events every five seconds; tasks before that leave no trace.
        def seen():
            done = app.send_task("math.add", (2, 3))
            done.get(timeout=30)
            return until(lambda: (ask("tasks") or {}).get(done.id), 2)

        task = until(seen)
        task = until(lambda: (lambda is_: is_ if is_["state"] == "SUCCESS" else None)(ask("tasks")[task["uuid"]]))
        print(task["name"], task["state"], task["result"], task["worker"] == node)
        def failed():
            app.send_task("math.fail", ("no luck",)).get(timeout=30, propagate=False)
            tasks = (ask("tasks") or {}).values()
            return [task["exception"] for task in tasks if task["state"] == "FAILURE"]

        print(until(failed)[0])
        stopped = ask(f"worker/shutdown/{node}", b"")
        print(stopped["message"])
    finally:
        shown.terminate()
        shown.wait()


def push_notes():
    for _ in range(int(sys.argv[3])):
        app.send_task("note", (str(uuid.uuid4()),), ignore_result=True)


if sys.argv[1] == "produce":
    produce()
elif sys.argv[1] == "canvas":
    canvas()
elif sys.argv[1] == "notes":
    push_notes()
elif sys.argv[1] == "control":
    control()
elif sys.argv[1] == "flower":
    flower()
else:
    app.worker_main(
        ["worker", "--pool=solo", "--loglevel=WARNING", "-Q", queue, "--without-gossip", "--without-mingle"]
    )
