"""The pages: front, event, and the way from a held seat to an order."""

import json
import secrets
import uuid
from datetime import datetime, timezone

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate, login
from django.contrib.auth.decorators import login_required
from django.core.cache import cache
from django.db import connection, transaction
from django.db.models import F
from django.http import Http404
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_POST

from .models import Comment, Event, Facet, Hold, Order, Seats, Ticket, new_id, now_ms

FRONT_EVENTS = 17
FRONT_FACETS = 18
MORE_EVENTS = 4
COMMENTS = 20
MOST_SEATS = 8
HOLD_MS = 10 * 60 * 1000
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def front(request):
    return render(request, "front.html", {"body": fragment("front", front_body)})


def front_body():
    today = today_utc()
    coming = Event.objects.filter(status=Event.PUBLISHED, starts_on__gte=today)
    events = list(coming.select_related("seats").order_by("starts_on", "id")[:FRONT_EVENTS])
    facets = Facet.objects.order_by("-events", "name")
    titles = [("topic", "By topic", 1), ("city", "By city", 3), ("country", "By country", 2)]
    context = {
        "lead": standing(events[0], today) if events else None,
        "posters": [standing(event, today) for event in events[1:9]],
        "later": [standing(event, today) for event in events[9:]],
        "facets": [
            (name, title, facets.filter(kind=kind)[:FRONT_FACETS]) for name, title, kind in titles
        ],
    }
    return render_to_string("parts/front.html", context)


def event(request, event_id):
    events = Event.objects.select_related("organiser", "seats")
    event = get_object_or_404(events, pk=event_id)
    if event.status == Event.DRAFT:
        raise Http404
    today = today_utc()
    standing(event, today)
    context = {
        "event": event,
        "facts": fragment(f"facts/{event_id}", lambda: facts(event)),
        "talk": fragment(f"talk/{event_id}", lambda: talk(event)),
        "more": fragment(f"more/{event.topic}/{event_id}", lambda: more(event, today)),
    }
    seats = getattr(event, "seats", None)
    if seats and event.is_selling:
        context["quantities"] = range(1, max(1, min(seats.free, MOST_SEATS)) + 1)
    return render(request, "event.html", context)


def facts(event):
    return render_to_string("parts/facts.html", {"event": event})


def talk(event):
    comments = Comment.objects.filter(event=event, is_hidden=False).select_related("author")
    comments = list(comments.order_by("-id")[: COMMENTS + 1])
    older = comments[COMMENTS - 1].id if len(comments) > COMMENTS else None
    context = {"event": event, "comments": comments[:COMMENTS], "older": older}
    return render_to_string("parts/talk.html", context)


def more(event, today):
    coming = Event.objects.filter(
        status=Event.PUBLISHED, topic=event.topic, starts_on__gte=today
    ).select_related("seats")
    others = [other for other in coming.order_by("starts_on", "id")[: MORE_EVENTS + 1]]
    others = [standing(other, today) for other in others if other.id != event.id][:MORE_EVENTS]
    return render_to_string("parts/more.html", {"topic": event.topic, "events": others})


def fragment(key, render):
    """The part of a page, from the cache when the bench asks for a site that caches parts."""
    if not settings.CACHE_FRAGMENTS:
        return render()
    return cache.get_or_set(key, render, 60)


def standing(event, today):
    """Notes on the event how it stands today: a tag, and whether tickets are sold."""
    seats = getattr(event, "seats", None)
    is_listed = not seats or seats.capacity == 0
    event.is_over = event.ends_on < today
    event.is_listed = is_listed and not event.is_over
    event.is_sold_out = not is_listed and seats.free == 0
    event.is_selling = not (is_listed or event.is_over or event.is_sold_out) and (
        event.status == Event.PUBLISHED
    )
    event.tag = ""
    if event.status == Event.CANCELLED:
        event.tag = "Cancelled"
    elif event.is_over:
        event.tag = "Past"
    elif event.is_sold_out:
        event.tag = "Sold out"
    elif event.is_selling and seats.free <= 10:
        event.tag = f"{seats.free} left"
    return event


@login_required
@require_POST
def hold(request, event_id):
    quantity = form_number(request, "quantity", MOST_SEATS)
    event = get_object_or_404(Event, pk=event_id)
    if quantity is None or not standing(event, today_utc()).is_selling:
        return redirect(f"/events/{event_id}")
    with transaction.atomic():
        free = Seats.objects.filter(
            event_id=event_id, capacity__gte=F("sold") + F("held") + quantity
        )
        if not free.update(held=F("held") + quantity):
            messages.error(request, "Those seats have just gone.")
            return redirect(f"/events/{event_id}")
        hold = Hold.objects.create(
            event=event, user=request.user, quantity=quantity, expires_at_ms=now_ms() + HOLD_MS
        )
    return redirect(f"/checkout/{hold.id}")


@login_required
def checkout(request, hold_id):
    hold = Hold.objects.select_related("event").filter(pk=hold_id, user=request.user).first()
    if hold is None or hold.expires_at_ms <= now_ms():
        raise Http404
    if request.method != "POST":
        return render(request, "checkout.html", {"hold": hold, "event": hold.event})
    attendee = request.POST.get("attendee", "").strip()
    email = request.POST.get("email", "").strip()
    if not attendee or "@" not in email:
        return render(request, "checkout.html", {"hold": hold, "event": hold.event, "wrong": True})
    if not Hold.objects.filter(pk=hold.id, is_paying=False).update(is_paying=True):
        raise Http404
    payment = pay(hold)
    order = buy(hold, attendee, email, payment)
    return redirect(f"/orders/{order.number}")


def pay(hold):
    """The stand-in for a payment provider: always says yes."""
    return f"demo-{secrets.token_hex(8)}" if hold.event.price_cents else ""


def buy(hold, attendee, email, payment):
    """Turns held seats into sold ones, with an order, its tickets and the task that mails them."""
    digits = "".join(secrets.choice(ALPHABET) for _ in range(10))
    with transaction.atomic():
        if not Hold.objects.filter(pk=hold.id).delete()[0]:
            raise Http404
        Seats.objects.filter(event_id=hold.event_id).update(
            held=F("held") - hold.quantity, sold=F("sold") + hold.quantity
        )
        order = Order.objects.create(
            number=f"BX-{digits[:5]}-{digits[5:]}",
            event_id=hold.event_id,
            user_id=hold.user_id,
            hold_id=hold.id,
            quantity=hold.quantity,
            amount_cents=hold.event.price_cents * hold.quantity,
            currency=hold.event.currency,
            attendee=attendee,
            email=email,
            payment=payment,
            status=Order.PAID,
            created_at_ms=now_ms(),
        )
        Ticket.objects.bulk_create(
            Ticket(order=order, event_id=hold.event_id, place=place)
            for place in range(1, hold.quantity + 1)
        )
        enqueue("mail_tickets", {"order": order.id})
    return order


def enqueue(name, arguments):
    """Puts a task beside the data, as an outbox would."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_tasks (id, name, message, due_at_ms) VALUES (%s, %s, %s, %s)",
            [new_id(), name, json.dumps({"id": str(uuid.uuid4()), "kwargs": arguments}), now_ms()],
        )


@login_required
def order(request, number):
    orders = Order.objects.select_related("event")
    order = get_object_or_404(orders, number=number, user=request.user)
    return render(request, "order.html", {"order": order, "event": order.event})


def sign_in(request):
    if request.method == "POST":
        user = authenticate(
            request,
            username=request.POST.get("username", ""),
            password=request.POST.get("password", ""),
        )
        if user is not None:
            login(request, user)
            return redirect("/")
        messages.error(request, "Wrong name or password.")
    return render(request, "sign_in.html")


def form_number(request, name, most):
    text = request.POST.get(name, "")
    number = int(text) if text.isdecimal() and len(text) < 4 else 0
    return number if 1 <= number <= most else None


def today_utc():
    return datetime.now(timezone.utc).date().isoformat()
