"""How numbers, days and money read on a page, word for word as boxoffice writes them."""

from datetime import date, datetime, timezone
from functools import lru_cache

SIGNS = {"EUR": "€", "USD": "$", "GBP": "£"}
TOPICS = {
    "api": "APIs",
    "cfml": "CFML",
    "cpp": "C++",
    "css": "CSS",
    "devops": "DevOps",
    "dotnet": ".NET",
    "golang": "Go",
    "graphql": "GraphQL",
    "ios": "iOS",
    "iot": "IoT",
    "javascript": "JavaScript",
    "opensource": "Open source",
    "php": "PHP",
    "sre": "SRE",
    "tech-comm": "Tech writing",
    "typescript": "TypeScript",
    "ux": "UX",
    "general": "General",
    "data": "Data",
}


def price(cents, currency):
    if cents == 0:
        return "Free"
    if cents % 100 == 0:
        return f"{SIGNS.get(currency, currency + ' ')}{cents // 100:,}"
    return money(cents, currency)


def money(cents, currency):
    return f"{SIGNS.get(currency, currency + ' ')}{cents // 100:,}.{cents % 100:02}"


def count(number, one, many):
    return f"{number:,} {one if number == 1 else many}"


@lru_cache(maxsize=4096)
def days(start, end):
    first = date.fromisoformat(start)
    last = date.fromisoformat(end) if end else first
    if last <= first:
        return f"{first:%a} {first.day} {first:%b %Y}"
    until = f"{last.day} {last:%b %Y}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{until}"
    if first.year == last.year:
        return f"{first.day} {first:%b} – {until}"
    return f"{first.day} {first:%b %Y} – {until}"


def moment(at_ms):
    at = datetime.fromtimestamp(at_ms / 1000, timezone.utc)
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def place(event):
    parts = ", ".join(part for part in (event.city, event.country) if part)
    if not parts:
        return "Online" if event.online else "Place to be announced"
    return f"{parts} and online" if event.online else parts


def topic(name):
    return TOPICS.get(name) or name[:1].upper() + name[1:]


def site(url):
    """The host of a web address, if it is one."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("http", "https"):
        return ""
    host = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    return host.removeprefix("www.")


def gauge(seats):
    """How many seats are left, in words and as the width of a bar."""
    if seats.free == 0:
        return "Sold out", 0
    words = f"{count(seats.free, 'seat', 'seats')} of {seats.capacity:,} left"
    return words, -(-seats.free * 100 // max(seats.capacity, 1))
