"""Celery as the peer of the bench: prints the figures of the case that is named.

`push`, `run`, `latency` and `calls` use the queue that is given and the broker in BROKER. `push` and
`run` say too what a task cost the processor, in microseconds.
"""

import sys

if sys.argv[1] == "calling":
    # Before anything else is there, or sockets stay as they are.
    from gevent import monkey

    monkey.patch_all()

import os
import resource
import subprocess
import tempfile
import threading
import time
import urllib.request

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


@app.task(name="call")
def call(address):
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == b"done"
    answered.append(None)


answered = []
notes = os.path.join(tempfile.gettempdir(), queue)


def waiting():
    """How many tasks stand in the queue."""
    with app.connection_for_read() as connection:
        try:
            return connection.default_channel.queue_declare(queue, passive=True).message_count
        except connection.channel_errors:
            return 0  # on Redis an empty queue is none


def push(count):
    begun, used = time.time(), time.process_time()
    for _ in range(count):
        noop.delay()
    cost = (time.process_time() - used) * 1e6 / count
    return count / (time.time() - begun), cost


def used_by(process):
    """The processor time of a process and its children, in seconds."""
    with open(f"/proc/{process}/task/{process}/children") as file:
        children = file.read().split()
    with open(f"/proc/{process}/stat") as file:
        ticks = file.read().rpartition(")")[2].split()[11:13]
    own = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(used_by, children))


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
        begun, left, used = time.time(), waiting(), used_by(process.pid)
        while waiting() > 0:
            time.sleep(0.005)
        cost = (used_by(process.pid) - used) * 1e6 / left
        return left / (time.time() - begun), cost
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


def calls(count, address):
    """Many calls at once in one worker with green threads: seconds, megabytes, and microseconds of
    the processor for each."""
    for _ in range(count):
        call.delay(address)
    command = [sys.executable, os.path.abspath(__file__), "calling", queue, str(count)]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    return said.partition("figures")[2].split()


def calling(count):
    """Works until all calls are answered, and says what that took from the first on."""
    from celery.signals import worker_ready

    begun = []

    @worker_ready.connect
    def ready(**_):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        begun.extend((time.time(), usage.ru_utime + usage.ru_stime))

    def watch():
        limit = time.time() + 300
        while len(answered) < count and time.time() < limit:
            time.sleep(0.02)
        took = time.time() - begun[0]
        usage = resource.getrusage(resource.RUSAGE_SELF)
        used = usage.ru_utime + usage.ru_stime - begun[1]
        if len(answered) == count:
            figures = (took, usage.ru_maxrss / 1024, used * 1e6 / count)
            # Celery makes log lines of what is printed.
            print("figures", *figures, file=sys.__stdout__, flush=True)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    app.worker_main(
        ["worker", "-P", "gevent", f"--concurrency={count}", "--prefetch-multiplier=1"]
        + ["--loglevel=ERROR", "--without-gossip", "--without-mingle", "-Q", queue]
    )


if what == "work":
    app.worker_main(["worker", "--concurrency=2", "--loglevel=ERROR", "-Q", queue])
elif what == "push":
    print(*push(3000))
elif what == "run":
    print(*run())
elif what == "calls":
    print(*calls(int(sys.argv[3]), sys.argv[4]))
elif what == "calling":
    calling(int(sys.argv[3]))
else:
    print(*latency())
