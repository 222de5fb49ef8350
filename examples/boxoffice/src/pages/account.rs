//! Signing up, in and out, and what one says about oneself.

use maud::Markup;
use serde::Deserialize;
use throng::{
    Result,
    web::{Form, IntoResponse, Query, Redirect, Response, StatusCode},
};

use super::{
    Guest,
    guest::{again, local},
};
use crate::{
    accounts::{self, Hasher, Refusal, SignIn, SignUp},
    models::{Problems, Stamp, users},
    tags,
    views::{account as view, forms::Filled},
};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Next {
    next: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Login {
    /// A username or an address.
    username: String,
    password: String,
    next: String,
}

#[derive(Deserialize)]
pub(super) struct Joining {
    #[serde(flatten)]
    form: SignUp,
    #[serde(default)]
    next: String,
}

pub(super) async fn sign_up_form(guest: Guest, Query(asked): Query<Next>) -> Result<Response> {
    if guest.user().is_some() {
        return Ok(Redirect::to(local(&asked.next)).into_response());
    }
    let page = sign_up_page(&guest, &SignUp::default(), &asked.next, &Problems::default())?;
    Ok(page.into_response())
}

pub(super) async fn sign_up(guest: Guest, Form(typed): Form<Joining>) -> Result<Response> {
    let Joining { form, next } = typed;
    let cx = &guest.cx;
    let hasher = cx.provided::<Hasher>()?;
    match accounts::sign_up(&cx.db, hasher, Stamp::new(&cx.ids, &cx.clock), &form).await? {
        Err(problems) => Ok(again(sign_up_page(&guest, &form, &next, &problems)?)),
        Ok(user) => {
            guest.who.sign_in(user.id, &user.password)?;
            Ok(guest.told(local(&next), format!("Welcome, {}. You are signed in.", user.name)))
        }
    }
}

fn sign_up_page(guest: &Guest, form: &SignUp, next: &str, problems: &Problems) -> Result<Markup> {
    let values = |name: &str| {
        let value = match name {
            "name" => &form.name,
            "username" => &form.username,
            "email" => &form.email,
            _ => "",
        };
        value.to_owned()
    };
    let frame = guest.frame_with_form()?;
    let body = view::sign_up(&frame, &Filled { values: &values, problems }, next);
    Ok(frame.page("Sign up", body))
}

pub(super) async fn sign_in_form(guest: Guest, Query(asked): Query<Next>) -> Result<Response> {
    if guest.user().is_some() {
        return Ok(Redirect::to(local(&asked.next)).into_response());
    }
    let login = Login { next: asked.next, ..Login::default() };
    Ok(sign_in_page(&guest, &login, &Problems::default())?.into_response())
}

pub(super) async fn sign_in(guest: Guest, Form(login): Form<Login>) -> Result<Response> {
    let cx = &guest.cx;
    let typed = SignIn { login: &login.username, password: &login.password, client: &guest.client };
    let hasher = cx.provided::<Hasher>()?;
    match accounts::sign_in(&cx.db, hasher, cx.clock.now_ms(), typed).await? {
        Ok(user) => {
            guest.who.sign_in(user.id, &user.password)?;
            Ok(Redirect::to(local(&login.next)).into_response())
        }
        Err(refusal) => {
            let mut problems = Problems::default();
            problems.add("username", refusal.to_string());
            let mut response = again(sign_in_page(&guest, &login, &problems)?);
            if matches!(refusal, Refusal::TooMany { .. }) {
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            }
            Ok(response)
        }
    }
}

fn sign_in_page(guest: &Guest, login: &Login, problems: &Problems) -> Result<Markup> {
    let values =
        |name: &str| if name == "username" { login.username.clone() } else { String::new() };
    let frame = guest.frame_with_form()?;
    let body = view::sign_in(&frame, &Filled { values: &values, problems }, &login.next);
    Ok(frame.page("Sign in", body))
}

pub(super) async fn sign_out(guest: Guest) -> Result<Response> {
    guest.who.sign_out()?;
    Ok(guest.told("/", "You are signed out."))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Profile {
    name: String,
    bio: String,
}

pub(super) async fn settings_form(guest: Guest) -> Result<Markup> {
    let user = guest.member()?;
    let profile = Profile { name: user.name.clone(), bio: user.bio.clone() };
    settings_page(&guest, &profile, &Problems::default())
}

pub(super) async fn settings(guest: Guest, Form(profile): Form<Profile>) -> Result<Response> {
    let user = guest.member()?;
    match users::edit_profile(&guest.cx.db, user, &profile.name, &profile.bio).await? {
        Err(problems) => Ok(again(settings_page(&guest, &profile, &problems)?)),
        Ok(()) => {
            guest.cx.purge(&tags::person(user.id)).await;
            Ok(guest.told("/settings", "Saved."))
        }
    }
}

fn settings_page(guest: &Guest, profile: &Profile, problems: &Problems) -> Result<Markup> {
    let values =
        |name: &str| if name == "bio" { profile.bio.clone() } else { profile.name.clone() };
    let frame = guest.frame()?;
    let body = view::settings(&frame, &Filled { values: &values, problems });
    Ok(frame.page("Settings", body))
}
