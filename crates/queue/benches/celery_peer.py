"""Celery as the peer of the bench: prints one figure for each case that is named.

`push`, `run` and `latency` use the queue that is given and the broker in BROKER.
"""

import os
import subprocess
import sys
import tempfile
import time

from celery import Celery

url = os.environ["BROKER"]
what, queue = sys.argv[1], sys.argv[2]
app = Celery("peer", broker=url)
if url.startswith("amqp"):
    # Without it a push is not acknowledged, and ours are.
    app.conf.broker_transport_options = {"confirm_publish": True}
app.conf.update(
    task_default_queue=queue, task_ignore_result=True, broker_connection_retry_on_startup=True
)


@app.task(name="noop")
def noop():
    pass


@app.task(name="started")
def started(sent):
    with open(notes, "a") as file:
        file.write(f"{time.time() - sent}\n")


notes = os.path.join(tempfile.gettempdir(), queue)


def waiting():
    """How many tasks stand in the queue."""
    with app.connection_for_read() as connection:
        try:
            return connection.default_channel.queue_declare(queue, passive=True).message_count
        except connection.channel_errors:
            return 0  # on Redis an empty queue is none


def push(count):
    begun = time.time()
    for _ in range(count):
        noop.delay()
    return count / (time.time() - begun)


def worker():
    script = os.path.abspath(__file__)
    command = [sys.executable, script, "work", queue]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run():
    count = 4000
    push(count)
    process = worker()
    try:
        while waiting() > count - 200:
            time.sleep(0.005)
        begun, left = time.time(), waiting()
        while waiting() > 0:
            time.sleep(0.005)
        return left / (time.time() - begun)
    finally:
        process.terminate()
        process.wait()


def latency():
    process = worker()
    try:
        for _ in range(220):
            started.delay(time.time())
            time.sleep(0.03)
        with open(notes) as file:
            waits = [float(line) * 1000 for line in file][20:]
        os.remove(notes)
        waits.sort()
        return waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    finally:
        process.terminate()
        process.wait()


if what == "work":
    app.worker_main(["worker", "--concurrency=2", "--loglevel=ERROR", "-Q", queue])
elif what == "push":
    print(push(3000))
elif what == "run":
    print(run())
else:
    print(*latency())
