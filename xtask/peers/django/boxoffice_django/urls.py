"""The addresses, the same as boxoffice's."""

from django.urls import path

from . import views

urlpatterns = [
    path("", views.front),
    path("events/<int:event_id>", views.event),
    path("events/<int:event_id>/hold", views.hold),
    path("checkout/<int:hold_id>", views.checkout),
    path("orders/<str:number>", views.order),
    path("sign-in", views.sign_in),
]
