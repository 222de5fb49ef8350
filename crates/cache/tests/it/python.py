"""The real Python clients: one JSON command a line in, one JSON answer a line out.

Bytes travel as {"bytes": "hex"}; everything else is itself.
"""

import json
import sys

import django
from django.conf import settings

settings.configure()
django.setup()

import memcache
import pylibmc
from django.core.cache.backends.memcached import PyLibMCCache, PyMemcacheCache
from django.core.cache.backends.redis import RedisCache
from django_redis.cache import RedisCache as PackagedRedisCache
from pymemcache import serde
from pymemcache.client.hash import HashClient


# Milliseconds. The machine may be busy: a server that is well must not be taken for a dead one.
PATIENCE = {"connect_timeout": 30_000, "_poll_timeout": 30_000}


def pylibmc_client(behaviors):
    return lambda servers: pylibmc.Client(servers, behaviors=PATIENCE | behaviors)


def pymemcache_client(servers):
    # Without an answer to its writes, we might read before the server has what it wrote.
    return HashClient(addresses(servers), serde=serde.pickle_serde, default_noreply=False)


def packaged(servers, options):
    return PackagedRedisCache(f"redis://{servers[0]}/0", {"OPTIONS": options})


CLIENTS = {
    "modula": pylibmc_client({}),
    "ketama": pylibmc_client({"ketama": True}),
    "ketama-md5": pylibmc_client({"ketama": True, "hash": "md5"}),
    "ketama-weighted": pylibmc_client({"ketama_weighted": True}),
    "rendezvous": pymemcache_client,
    "crc": lambda servers: memcache.Client(servers, socket_timeout=30),
    "django-pylibmc": lambda servers: PyLibMCCache(servers, {"OPTIONS": {"behaviors": PATIENCE}}),
    "django-pymemcache": lambda servers: PyMemcacheCache(servers, {}),
    "django-redis": lambda servers: RedisCache(f"redis://{servers[0]}/0", {}),
    "django-redis-package": lambda servers: packaged(servers, {}),
    "django-redis-package-zlib": lambda servers: packaged(
        servers, {"COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor"}
    ),
}


# Clients that leave out a server that fails, each in its own manner. Seconds, unless said otherwise.
EJECTING = {
    "ketama-weighted": lambda servers: pylibmc.Client(
        servers,
        behaviors={
            "ketama_weighted": True,
            "auto_eject": 1,
            "failure_limit": 1,
            "retry_timeout": 60,
            # Milliseconds to connect, microseconds to send and receive, milliseconds to poll.
            "connect_timeout": 2_000,
            "send_timeout": 2_000_000,
            "receive_timeout": 2_000_000,
            "_poll_timeout": 2_000,
        },
    ),
    "rendezvous": lambda servers: HashClient(
        addresses(servers),
        serde=serde.pickle_serde,
        connect_timeout=2,
        timeout=2,
        retry_attempts=0,
        dead_timeout=600,
        ignore_exc=True,
        default_noreply=False,
    ),
    "crc": lambda servers: memcache.Client(servers, socket_timeout=2, dead_retry=600),
}


def addresses(servers):
    return [(host, int(port)) for host, port in (server.split(":") for server in servers)]


def pack(value):
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


def unpack(value):
    is_bytes = isinstance(value, dict) and list(value) == ["bytes"]
    return bytes.fromhex(value["bytes"]) if is_bytes else value


def patiently(call, *arguments, wants=lambda done: True):
    """The first calls to a dead server fail, until the client has ejected it."""
    for _ in range(20):
        try:
            done = call(*arguments)
        except pylibmc.Error:
            continue
        if wants(done):
            return done
    raise TimeoutError(arguments)


ejecting = {}


def answer(name, servers, command, argument):
    if name.startswith("ejecting "):
        # One client for as long as it is not told to forget what it has ejected.
        if command == "forget":
            return ejecting.clear()
        name = name.removeprefix("ejecting ")
        client = ejecting.get("client") or ejecting.setdefault("client", EJECTING[name](servers))
        if command == "set":
            return sum(bool(patiently(client.set, *pair, wants=bool)) for pair in argument.items())
        return {key: patiently(client.get, key) for key in argument}
    client = CLIENTS[name](servers)
    if command == "set":
        for key, value in argument.items():
            client.set(key, unpack(value), 600)
        return len(argument)
    found = client.get_many(argument) if hasattr(client, "get_many") else client.get_multi(argument)
    return {key: pack(value) for key, value in found.items()}


for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line))), flush=True)
