"""Real Celery, on the other side of the queue: `produce QUEUE` or `work QUEUE`."""

import os
import sys
import time
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
    after, known = plus(10), str(uuid.uuid4())
    add.apply_async((1, 2), link=after.set(task_id=known))
    print(app.AsyncResult(known).get(timeout=60))
    told, known = echo.s(), str(uuid.uuid4())
    failed = fail.apply_async(("no luck",), link_error=told.set(task_id=known))
    print(app.AsyncResult(known).get(timeout=60) == failed.id)


def push_notes():
    for _ in range(int(sys.argv[3])):
        app.send_task("note", (str(uuid.uuid4()),), ignore_result=True)


if sys.argv[1] == "produce":
    produce()
elif sys.argv[1] == "canvas":
    canvas()
elif sys.argv[1] == "notes":
    push_notes()
else:
    app.worker_main(
        ["worker", "--pool=solo", "--loglevel=WARNING", "-Q", queue, "--without-gossip", "--without-mingle"]
    )
