"""pylibmc's and Django's side of the bench: servers by argument, one JSON object out."""

import json
import sys
import threading
import time

import django
from django.conf import settings

settings.configure(
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
)
django.setup()

import pylibmc
from django.core.cache import cache

SERVERS = sys.argv[1].split(",")


def per_call(call, count):
    """Microseconds of wall time and of CPU time, the best of three rounds."""
    walls, cpus = [], []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            call()
        walls.append((time.perf_counter() - wall) / count * 1e6)
        cpus.append((time.process_time() - cpu) / count * 1e6)
    return {"wall_us": min(walls), "cpu_us": min(cpus)}


def one():
    client = pylibmc.Client(SERVERS[:1], behaviors={"tcp_nodelay": True})
    client.set("bench:one", "x" * 200, 600)
    return per_call(lambda: client.get("bench:one"), 4000)


def many():
    client = pylibmc.Client(SERVERS, behaviors={"tcp_nodelay": True, "ketama_weighted": True})
    keys = [f"bench:{number}" for number in range(100)]
    for key in keys:
        client.set(key, "x" * 200, 600)
    assert len(client.get_multi(keys)) == 100
    return per_call(lambda: client.get_multi(keys), 500)


def across_expiries(readers=8, every=0.005, seconds=4, ttl=0.5, load=0.05):
    """Milliseconds that 99 of 100 reads take, at most, with readers that ask all the time."""
    took, until = [], time.perf_counter() + seconds

    def loader():
        time.sleep(load)
        return "page"

    def read():
        due = time.perf_counter()
        while due < until:
            time.sleep(max(0, due - time.perf_counter()))
            begun = time.perf_counter()
            due = max(due, begun)
            cache.get_or_set("hot", loader, ttl)
            ended = time.perf_counter()
            took.append(ended - begun)
            due += every
            # Of readers that come when they come, each is late that comes while one waits.
            while due < ended:
                took.append(ended - due)
                due += every

    threads = [threading.Thread(target=read) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took.sort()
    return took[len(took) * 99 // 100] * 1e3


CASES = {"one": one, "many": many, "expiry": across_expiries}
print(json.dumps(CASES[sys.argv[2]]()))
