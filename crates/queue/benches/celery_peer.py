"""Celery as the peer of the bench: prints one figure for each case that is named.

`push`, `run` and `latency` use the queue that is given and the broker in BROKER.
"""

import os
import subprocess
import sys
import time

from celery import Celery
from redis import Redis

url = os.environ["BROKER"]
what, queue = sys.argv[1], sys.argv[2]
app = Celery("peer", broker=url)
app.conf.update(
    task_default_queue=queue, task_ignore_result=True, broker_connection_retry_on_startup=True
)


@app.task(name="noop")
def noop():
    pass


@app.task(name="started")
def started(sent):
    client = Redis.from_url(url)
    client.rpush(f"{queue}-started", time.time() - sent)


def push(count):
    begun = time.time()
    for _ in range(count):
        noop.delay()
    return count / (time.time() - begun)


def worker():
    script = os.path.abspath(__file__)
    command = [sys.executable, script, "work", queue]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run(client):
    count = 4000
    push(count)
    process = worker()
    try:
        while client.llen(queue) > count - 200:
            time.sleep(0.005)
        begun, left = time.time(), client.llen(queue)
        while client.llen(queue) > 0 or client.hlen("unacked") > 0:
            time.sleep(0.005)
        return left / (time.time() - begun)
    finally:
        process.terminate()
        process.wait()


def latency(client):
    process = worker()
    try:
        for _ in range(220):
            started.delay(time.time())
            time.sleep(0.03)
        waits = [float(wait) * 1000 for wait in client.lrange(f"{queue}-started", 20, -1)]
        client.delete(f"{queue}-started")
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
    print(run(Redis.from_url(url)))
else:
    print(*latency(Redis.from_url(url)))
