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
    pairs = [(host, int(port)) for host, port in (server.split(":") for server in servers)]
    return HashClient(pairs, serde=serde.pickle_serde)


def packaged(servers, options):
    return PackagedRedisCache(f"redis://{servers[0]}/0", {"OPTIONS": options})


CLIENTS = {
    "modula": pylibmc_client({}),
    "ketama": pylibmc_client({"ketama": True}),
    "ketama-md5": pylibmc_client({"ketama": True, "hash": "md5"}),
    "ketama-weighted": pylibmc_client({"ketama_weighted": True}),
    "auto-eject": pylibmc_client(
        {
            "ketama_weighted": True,
            "auto_eject": 1,
            "failure_limit": 1,
            "retry_timeout": 60,
            # Milliseconds to connect, microseconds to send and receive, milliseconds to poll.
            "connect_timeout": 500,
            "send_timeout": 500_000,
            "receive_timeout": 500_000,
            "_poll_timeout": 500,
        }
    ),
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


def pack(value):
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


def unpack(value):
    is_bytes = isinstance(value, dict) and list(value) == ["bytes"]
    return bytes.fromhex(value["bytes"]) if is_bytes else value


def patiently(call, *arguments):
    """The first calls to a dead server fail, until the client has ejected it."""
    for _ in range(20):
        try:
            return call(*arguments)
        except pylibmc.Error:
            pass
    raise TimeoutError(arguments)


ejecting = {}


def answer(name, servers, command, argument):
    if name == "auto-eject":
        # One client for as long as it is not told to forget what it has ejected.
        client = ejecting.get("client") or ejecting.setdefault("client", CLIENTS[name](servers))
        if command == "forget":
            return ejecting.clear()
        if command == "set":
            return sum(patiently(client.set, key, value, 600) for key, value in argument.items())
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
