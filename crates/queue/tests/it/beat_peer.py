"""Django with django-celery-beat, on the other side of its tables: `prepare`, `change`, `show`, `celery`."""

import datetime
import json
import os
import sys
import time

import django
from django.conf import settings
from django.core.management import call_command

database = json.loads(os.environ["DATABASE"])
if database["ENGINE"].endswith("mysql"):
    import pymysql

    pymysql.install_as_MySQLdb()
settings.configure(
    DATABASES={"default": database},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django_celery_beat"],
    TIME_ZONE="Europe/Berlin",
    USE_TZ=True,
)
django.setup()

from celery import Celery, signals
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from django_celery_beat.schedulers import DatabaseScheduler

now = timezone.now()
hour = datetime.timedelta(hours=1)


def every(count, period):
    return IntervalSchedule.objects.get_or_create(every=count, period=period)[0]


def row(name, age=hour * 30, **fields):
    """A schedule that was last changed `age` ago."""
    task = PeriodicTask(name=name, task="beat.note", args=json.dumps([name]), **fields)
    task.save()
    PeriodicTask.objects.filter(name=name).update(date_changed=now - age)


def prepare():
    call_command("migrate", verbosity=0)
    row("hourly", interval=every(1, "hours"), kwargs='{"deep": true}', headers='{"tenant": "x"}',
        priority=7, expire_seconds=600)
    tokyo = now.astimezone(datetime.timezone(datetime.timedelta(hours=9))) - 2 * hour
    nightly = CrontabSchedule.objects.create(
        minute=str(tokyo.minute), hour=str(tokyo.hour), timezone="Asia/Tokyo"
    )
    row("nightly", crontab=nightly, queue="named")
    row("once", clocked=ClockedSchedule.objects.create(clocked_time=now), one_off=True)
    row("off", interval=every(1, "seconds"), enabled=False)
    row("later", interval=every(1, "seconds"), start_time=now + hour)
    row("over", interval=every(1, "seconds"), expires=now - hour)
    sun = SolarSchedule.objects.create(event="sunset", latitude="52.5", longitude="13.4")
    row("sun", solar=sun)


def change():
    """`change NAME 0` or `1` as Django's admin does it."""
    task = PeriodicTask.objects.get(name=sys.argv[2])
    task.enabled = sys.argv[3] == "1"
    task.save()


def show():
    for task in PeriodicTask.objects.order_by("name"):
        ran = task.last_run_at
        recently = "never" if ran is None else "now" if abs(timezone.now() - ran) < hour else str(ran)
        print(task.name, "on" if task.enabled else "off", task.total_run_count, recently)


def celery():
    """Runs Celery's own scheduler until it has sent `NAME`, and a while after; what it sent."""
    # Without another package Celery's scheduler does not even start beside such a row.
    PeriodicTask.objects.get(name="sun").delete()
    app = Celery("peer", broker="memory://", timezone="Europe/Berlin", result_expires=None)
    sent = []

    @signals.before_task_publish.connect(weak=False)
    def note(headers=None, **_):
        sent.append(headers["periodic_task_name"])

    scheduler = DatabaseScheduler(app=app)
    end, after = time.time() + 60, 20
    while time.time() < end and after > 0:
        scheduler.tick()
        time.sleep(0.1)
        after -= sys.argv[2] in sent
    scheduler.sync()
    print(*sorted(sent))


if sys.argv[1] == "row":
    row(sys.argv[2], interval=every(1, "hours"))
else:
    {"prepare": prepare, "change": change, "show": show, "celery": celery}[sys.argv[1]]()
