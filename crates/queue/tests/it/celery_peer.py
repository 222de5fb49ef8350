"""Real Celery, on the other side of the queue: `produce QUEUE` or `work QUEUE`."""

import os
import sys
import time
import uuid

from celery import Celery

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


def push_notes():
    for _ in range(int(sys.argv[3])):
        app.send_task("note", (str(uuid.uuid4()),), ignore_result=True)


if sys.argv[1] == "produce":
    produce()
elif sys.argv[1] == "notes":
    push_notes()
else:
    app.worker_main(
        ["worker", "--pool=solo", "--loglevel=WARNING", "-Q", queue, "--without-gossip", "--without-mingle"]
    )
