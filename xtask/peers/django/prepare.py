"""Puts into boxoffice's database what the bench needs, and prints what visitors must know of it.

Buyers with passwords, events with seats enough for the whole run, some discussions, and the table
in which the Django site keeps its tasks. Always the same for the same events.
"""

import json
import os
import random

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "boxoffice_django.settings")
django.setup()

from django.contrib.auth.hashers import make_password  # noqa: E402
from django.db import connection, transaction  # noqa: E402

from boxoffice_django.models import Comment, Event, Seats, User, new_id, now_ms  # noqa: E402
from boxoffice_django.views import today_utc  # noqa: E402

BUYERS = 8
PASSWORD = "correct horse battery staple"
DISCUSSED = 1000
WORDS = "see you there who else is coming by train great programme last year was fun".split()


@transaction.atomic
def prepare():
    dice = random.Random(1)
    password = make_password(PASSWORD)
    people = [
        User(
            id=new_id(),
            username=f"bench-{number}",
            email=f"bench-{number}@example.com",
            password=password,
            name=f"Bench Buyer {number}",
            bio="",
            is_staff=False,
            is_active=True,
            joined_at_ms=now_ms(),
        )
        for number in range(BUYERS)
    ]
    User.objects.bulk_create(people)

    published = Event.objects.filter(status=Event.PUBLISHED).order_by("id")
    events = list(published.values_list("id", flat=True))
    coming = published.filter(starts_on__gte=today_utc()).order_by("starts_on", "id")
    selling = list(coming.values_list("id", flat=True)[:BUYERS])
    if not selling:
        raise SystemExit("no event is still to come; seed some")
    Event.objects.filter(id__in=selling).update(price_cents=3500, currency="EUR")
    for event in selling:
        Seats.objects.update_or_create(
            event_id=event, defaults={"capacity": 1_000_000, "sold": 0, "held": 0}
        )

    comments = []
    for event in dice.sample(events, min(DISCUSSED, len(events))):
        for _ in range(dice.randrange(1, 12)):
            comments.append(
                Comment(
                    id=new_id(),
                    event_id=event,
                    author=dice.choice(people),
                    body=" ".join(dice.choices(WORDS, k=dice.randrange(5, 30))),
                    is_hidden=False,
                    created_at_ms=now_ms(),
                )
            )
    Comment.objects.bulk_create(comments, batch_size=500)

    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE django_tasks (id INTEGER PRIMARY KEY, name TEXT NOT NULL,"
            " message TEXT NOT NULL, due_at_ms INTEGER NOT NULL)"
        )
        cursor.execute("CREATE INDEX django_tasks_by_due ON django_tasks (due_at_ms)")
    return events, selling, [person.username for person in people]


events, selling, buyers = prepare()
print(json.dumps({"events": events, "selling": selling, "buyers": buyers, "password": PASSWORD}))
