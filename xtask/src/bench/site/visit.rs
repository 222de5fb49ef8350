//! What visitors do: read pages, or buy tickets.

use anyhow::{Context, Result, bail};

use super::http::Client;

/// Somebody who reads one page after another, in an order of their own.
pub(super) struct Reader<'a> {
    client: Client,
    paths: &'a [String],
    dice: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(port: u16, paths: &'a [String], seed: u64) -> Self {
        Self { client: Client::new(port), paths, dice: seed }
    }

    /// Reads one page.
    pub(super) fn read(&mut self) -> Result<()> {
        // Knuth's constants; the low bits of such a generator are poor, so the high ones choose.
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let choice = usize::try_from(self.dice >> 33)? % self.paths.len();
        self.client.get(&self.paths[choice])?.expect(200)?;
        Ok(())
    }
}

/// Somebody who is signed in and buys one ticket after another.
pub(super) struct Buyer {
    client: Client,
    event: i64,
    token: String,
    email: String,
}

impl Buyer {
    pub(super) fn sign_in(port: u16, name: &str, password: &str, event: i64) -> Result<Self> {
        let mut client = Client::new(port);
        let token = token(&client.get("/sign-in")?.expect(200)?.text())?;
        let fields = [("csrfmiddlewaretoken", &*token), ("username", name), ("password", password)];
        let answer = client.post("/sign-in", &fields)?;
        if !(300..400).contains(&answer.status) {
            bail!("{name} cannot sign in: status {}", answer.status);
        }
        let page = client.get(&format!("/events/{event}"))?.expect(200)?;
        Ok(Self {
            client,
            event,
            token: self::token(&page.text())?,
            email: format!("{name}@example.com"),
        })
    }

    /// Holds a seat and pays for it. Both sites answer each step with a redirect.
    pub(super) fn buy(&mut self) -> Result<()> {
        let hold = [("csrfmiddlewaretoken", &*self.token), ("quantity", "1")];
        let path = format!("/events/{}/hold", self.event);
        let checkout = leads(self.client.post(&path, &hold)?, "/checkout/")?;
        let pay = [
            ("csrfmiddlewaretoken", &*self.token),
            ("attendee", "Ada Lovelace"),
            ("email", &*self.email),
            ("card", "4242 4242 4242 4242"),
        ];
        leads(self.client.post(&checkout, &pay)?, "/orders/")?;
        Ok(())
    }
}

fn leads(answer: super::http::Answer, to: &str) -> Result<String> {
    match &answer.location {
        Some(location) if location.contains(to) => Ok(location.clone()),
        other => {
            let start: String = answer.text().chars().take(200).collect();
            bail!("status {}, to {other:?} and not to {to}: {start}", answer.status)
        }
    }
}

/// The token in the page's first form.
pub(in crate::bench) fn token(page: &str) -> Result<String> {
    let field = page.split("<input").find(|input| input.contains("csrfmiddlewaretoken"));
    let value = field.and_then(|field| field.split("value=\"").nth(1)?.split('"').next());
    value.map(str::to_owned).context("no form on the page has a token")
}
