//! Checking tickets in at the door.

use maud::Markup;
use serde::Deserialize;
use throng::{
    Result,
    web::{Form, Path},
};

use super::{Guest, organise::own};
use crate::{
    tickets::{self, Admission},
    views::organise::{self as view, Door},
};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Shown {
    code: String,
}

pub(super) async fn form(guest: Guest, Path(id): Path<i64>) -> Result<Markup> {
    page(&guest, id, &Door::Waiting).await
}

pub(super) async fn check_in(
    guest: Guest,
    Path(id): Path<i64>,
    Form(shown): Form<Shown>,
) -> Result<Markup> {
    let event = own(&guest, id).await?;
    let (cx, code) = (&guest.cx, shown.code.trim());
    let now_ms = cx.clock.now_ms();
    let door = match tickets::admit(&cx.db, cx.keys(), event.id, code, now_ms).await? {
        Admission::Welcome(order) => {
            Door::Welcome { attendee: order.attendee, quantity: order.quantity }
        }
        Admission::UsedBefore { at_ms, order } => Door::Used { attendee: order.attendee, at_ms },
        Admission::OtherEvent(_) => Door::Wrong("this ticket is for another event"),
        Admission::Refunded(_) => Door::Wrong("the money for this ticket went back"),
        Admission::Unknown => Door::Wrong("this is no ticket of ours; look for a typing error"),
    };
    page(&guest, id, &door).await
}

async fn page(guest: &Guest, id: i64, door: &Door) -> Result<Markup> {
    let event = own(guest, id).await?;
    let frame = guest.frame()?;
    Ok(frame.page("At the door", view::door(&frame, &event, door)))
}
