"""The words as filters."""

from django import template

from .. import words

register = template.Library()

for plain in (words.place, words.topic, words.site, words.moment, words.gauge):
    register.filter(plain.__name__, plain)


@register.filter
def thousands(number):
    return f"{number:,}"


@register.filter
def spaced(names):
    return names.replace(",", ", ")


@register.filter
def days(event):
    return words.days(event.starts_on, event.ends_on)


@register.filter
def price(event):
    return words.price(event.price_cents, event.currency)


@register.filter
def paragraphs(text):
    return [part.strip() for part in text.split("\n\n") if part.strip()]


@register.filter
def leaf(day):
    """Month, day and year of a calendar leaf."""
    year, _, rest = day.partition("-")
    month, _, number = rest.partition("-")
    return MONTHS[int(month) - 1], int(number), year


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
