//! Holding seats and buying them.

use throng::{
    Error, Result,
    web::{Json, Path, Query, StatusCode},
};

use super::{
    events::visible,
    shapes::{Hold, NewHold, NewOrder, Order, Orders, Problem, Slice, next},
};
use crate::{
    live,
    models::orders as store,
    pages::Guest,
    purchase::{BuyError, Desk, HoldError, Purchase, Want},
};

/// Hold seats
///
/// They are yours for ten minutes. 409 when fewer are free.
#[utoipa::path(
    post, path = "/api/v1/events/{id}/holds", tag = "buying",
    params(("id" = String, Path, description = "The event", pattern = "^[0-9]{1,18}$")),
    request_body = NewHold,
    security(("session" = [])),
    responses(
        (status = 201, description = "The hold", body = Hold),
        (status = "4XX", description = "Not signed in, no such event, not so many seats", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn hold(
    guest: Guest,
    Path(id): Path<String>,
    Json(new): Json<NewHold>,
) -> Result<(StatusCode, Json<Hold>)> {
    let user_id = super::member(&guest)?;
    let event_id = visible(&guest, &id).await?.id;
    let want = Want { event_id, user_id, quantity: new.quantity };
    let hold = match Desk::of(&guest.cx).hold(want).await {
        Ok(hold) => hold,
        Err(HoldError::SoldOut { free }) => {
            return Err(Error::refused(format!("only {free} seats are free")));
        }
        Err(refusal @ HoldError::NotSelling) => return Err(Error::refused(refusal.to_string())),
        Err(refusal @ HoldError::Quantity) => return Err(Error::invalid(refusal.to_string())),
        Err(other) => return Err(other.into()),
    };
    live::seats_changed(&guest.cx, event_id).await?;
    Ok((StatusCode::CREATED, Json(hold.into())))
}

/// Read a hold
#[utoipa::path(
    get, path = "/api/v1/holds/{id}", tag = "buying",
    params(("id" = String, Path, description = "The hold", pattern = "^[0-9]{1,18}$")),
    security(("session" = [])),
    responses(
        (status = 200, description = "The hold", body = Hold),
        (status = "4XX", description = "Not signed in, or no such hold of yours", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn held(guest: Guest, Path(id): Path<String>) -> Result<Json<Hold>> {
    let user_id = super::member(&guest)?;
    let hold = Desk::of(&guest.cx).find_hold(super::id(&id)?, user_id).await?;
    Ok(Json(hold.ok_or_else(no_such_hold)?.into()))
}

/// Give seats back
///
/// Send `Content-Type: application/json` with it, although there is no body.
#[utoipa::path(
    delete, path = "/api/v1/holds/{id}", tag = "buying",
    params(("id" = String, Path, description = "The hold", pattern = "^[0-9]{1,18}$")),
    security(("session" = [])),
    responses(
        (status = 204, description = "The seats are back on sale"),
        (status = "4XX", description = "Not signed in, or no such hold of yours", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn release(guest: Guest, Path(id): Path<String>) -> Result<StatusCode> {
    let user_id = super::member(&guest)?;
    let desk = Desk::of(&guest.cx);
    let hold = desk.find_hold(super::id(&id)?, user_id).await?.ok_or_else(no_such_hold)?;
    desk.release(hold.id, user_id).await?;
    live::seats_changed(&guest.cx, hold.event_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Buy held seats
///
/// Sending it twice buys once: the second answer is the same order.
#[utoipa::path(
    post, path = "/api/v1/holds/{id}/order", tag = "buying",
    params(("id" = String, Path, description = "The hold", pattern = "^[0-9]{1,18}$")),
    request_body = NewOrder,
    security(("session" = [])),
    responses(
        (status = 201, description = "The order", body = Order),
        (status = "4XX", description = "Not signed in, no such hold, declined, or the body is not right", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The payment could not be reached; send the same again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn buy(
    guest: Guest,
    Path(id): Path<String>,
    Json(new): Json<NewOrder>,
) -> Result<(StatusCode, Json<Order>)> {
    let user_id = super::member(&guest)?;
    let hold_id = super::id(&id)?;
    let NewOrder { attendee, email, card } = &new;
    let purchase = Purchase { hold_id, user_id, attendee, email, card };
    let order = match Desk::of(&guest.cx).buy(purchase).await {
        Ok(order) => order,
        Err(BuyError::Gone) => return Err(no_such_hold()),
        Err(BuyError::Declined(reason)) => {
            return Err(Error::new(StatusCode::PAYMENT_REQUIRED, reason));
        }
        Err(BuyError::Unknown) => return Err(Error::unavailable(super::TRY_AGAIN)),
        Err(BuyError::Form(problems)) => return Err(super::invalid(&problems)),
        Err(BuyError::Write(error)) => return Err(Error::internal(error)),
    };
    live::seats_changed(&guest.cx, order.event_id).await?;
    Ok((StatusCode::CREATED, Json(order.into())))
}

/// List your orders
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/v1/orders", tag = "buying", params(Slice),
    security(("session" = [])),
    responses(
        (status = 200, description = "A page of orders", body = Orders),
        (status = "4XX", description = "Not signed in, or a parameter is not right", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn mine(guest: Guest, Query(slice): Query<Slice>) -> Result<Json<Orders>> {
    let user_id = super::member(&guest)?;
    let after = super::cursor(slice.after.as_deref())?;
    let limit = super::limit(slice.limit)?;
    let page = store::of_user(&guest.cx.db, user_id, after.as_ref(), limit).await?;
    let next = next(&page);
    Ok(Json(Orders { items: page.items.into_iter().map(Order::from).collect(), next }))
}

/// Read an order
#[utoipa::path(
    get, path = "/api/v1/orders/{number}", tag = "buying",
    params(("number" = String, Path, description = "The order's number, such as BX-7K3M9-QTD4X")),
    security(("session" = [])),
    responses(
        (status = 200, description = "The order", body = Order),
        (status = "4XX", description = "Not signed in, or no such order of yours", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn one(guest: Guest, Path(number): Path<String>) -> Result<Json<Order>> {
    let user_id = super::member(&guest)?;
    let order = store::find_by_number(&guest.cx.db, &number).await?;
    let order = order.filter(|order| order.user_id == user_id);
    Ok(Json(order.ok_or_else(|| Error::not_found("there is no such order of yours"))?.into()))
}

fn no_such_hold() -> Error {
    Error::not_found("there is no such hold of yours; it may have run out")
}
