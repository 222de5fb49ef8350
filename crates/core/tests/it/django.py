"""Real Django's side of the signing tests: one JSON command a line in, one JSON answer a line out."""

import json
import sys
from unittest import mock

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="throng-test-secret",
    SECRET_KEY_FALLBACKS=["the one before"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
)
django.setup()

from django.contrib.auth.models import User
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core import signing


def session_write(values):
    store = SessionStore()
    store.update(values)
    store.save()
    return store.session_key


ANSWERS = {
    "sign": lambda value, salt: signing.Signer(salt=salt).sign(value),
    "unsign": lambda text, salt: signing.Signer(salt=salt).unsign(text),
    "stamp": lambda value, salt: signing.TimestampSigner(salt=salt).sign(value),
    "unstamp": lambda text, salt: signing.TimestampSigner(salt=salt).unsign(text, max_age=60),
    "dumps": lambda value, salt, compress: signing.dumps(value, salt=salt, compress=compress),
    "loads": lambda text, salt: signing.loads(text, salt=salt, max_age=60),
    "session_write": session_write,
    "session_read": lambda text: SessionStore(text).load(),
    "auth_hash": lambda password: User(password=password).get_session_auth_hash(),
}

for line in sys.stdin:
    command, now_s, arguments = json.loads(line)
    with mock.patch("time.time", return_value=now_s):
        try:
            answer = {"ok": ANSWERS[command](*arguments)}
        except signing.BadSignature as error:
            answer = {"refused": type(error).__name__}
    print(json.dumps(answer), flush=True)
