"""Boxoffice's tables as Django models. boxoffice migrates them; here they are only used."""

import itertools
import os
import time

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


counter = itertools.count()


def new_id():
    """A time-ordered 63-bit id: milliseconds, process, and a number that goes round."""
    return now_ms() << 22 | (os.getpid() & 0x3FF) << 12 | next(counter) & 0xFFF


def now_ms():
    return int(time.time() * 1000)


class Table(models.Model):
    id = models.BigIntegerField(primary_key=True, default=new_id)

    class Meta:
        abstract = True


class User(AbstractBaseUser):
    id = models.BigIntegerField(primary_key=True, default=new_id)
    username = models.CharField(max_length=150, unique=True)
    email = models.CharField(max_length=254)
    name = models.CharField(max_length=150)
    bio = models.TextField()
    is_staff = models.BooleanField()
    is_active = models.BooleanField()
    joined_at_ms = models.BigIntegerField()
    last_login = None

    USERNAME_FIELD = "username"
    objects = BaseUserManager()

    class Meta:
        managed = False
        db_table = "users"


class Organiser(Table):
    name = models.CharField(max_length=200)
    website = models.CharField(max_length=500)
    about = models.TextField()
    owner = models.ForeignKey(User, null=True, on_delete=models.DO_NOTHING)

    class Meta:
        managed = False
        db_table = "organisers"


class Event(Table):
    DRAFT, PUBLISHED, CANCELLED = 0, 1, 2

    name = models.CharField(max_length=200)
    url = models.CharField(max_length=500)
    starts_on = models.CharField(max_length=10)
    ends_on = models.CharField(max_length=10)
    city = models.CharField(max_length=100)
    country = models.CharField(max_length=100)
    online = models.BooleanField()
    locales = models.CharField(max_length=50)
    topic = models.CharField(max_length=50)
    description = models.TextField()
    organiser = models.ForeignKey(Organiser, null=True, on_delete=models.DO_NOTHING)
    price_cents = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    status = models.SmallIntegerField()
    created_at_ms = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "events"


class Seats(models.Model):
    event = models.OneToOneField(
        Event, primary_key=True, on_delete=models.DO_NOTHING, related_name="seats"
    )
    capacity = models.IntegerField()
    sold = models.IntegerField()
    held = models.IntegerField()

    class Meta:
        managed = False
        db_table = "seats"

    @property
    def free(self):
        return max(self.capacity - self.sold - self.held, 0)


class Hold(Table):
    event = models.ForeignKey(Event, on_delete=models.DO_NOTHING)
    user = models.ForeignKey(User, on_delete=models.DO_NOTHING)
    quantity = models.IntegerField()
    expires_at_ms = models.BigIntegerField()
    is_paying = models.BooleanField(default=False)

    class Meta:
        managed = False
        db_table = "holds"


class Order(Table):
    PAID = 1

    number = models.CharField(max_length=16)
    event = models.ForeignKey(Event, on_delete=models.DO_NOTHING)
    user = models.ForeignKey(User, on_delete=models.DO_NOTHING)
    hold_id = models.BigIntegerField()
    quantity = models.IntegerField()
    amount_cents = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    attendee = models.CharField(max_length=150)
    email = models.CharField(max_length=254)
    payment = models.CharField(max_length=100)
    status = models.SmallIntegerField()
    created_at_ms = models.BigIntegerField()
    mailed_at_ms = models.BigIntegerField(null=True)

    class Meta:
        managed = False
        db_table = "orders"


class Ticket(Table):
    order = models.ForeignKey(Order, on_delete=models.DO_NOTHING)
    event = models.ForeignKey(Event, on_delete=models.DO_NOTHING)
    place = models.IntegerField()
    used_at_ms = models.BigIntegerField(null=True)

    class Meta:
        managed = False
        db_table = "tickets"


class Comment(Table):
    event = models.ForeignKey(Event, on_delete=models.DO_NOTHING)
    author = models.ForeignKey(User, on_delete=models.DO_NOTHING)
    body = models.TextField()
    is_hidden = models.BooleanField()
    created_at_ms = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "comments"


class Facet(models.Model):
    """How many events there are of each topic and country, as boxoffice counts them."""

    pk = models.CompositePrimaryKey("kind", "name")
    kind = models.SmallIntegerField()
    name = models.CharField(max_length=100)
    events = models.IntegerField()

    class Meta:
        managed = False
        db_table = "facets"
