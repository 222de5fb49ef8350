//! A visitor of the storm: does what visitors do, and notes what the site has told them.

use std::{
    collections::HashMap,
    fmt::Write,
    thread,
    time::{Duration, Instant},
};

use super::{
    dice::Dice,
    wire::{self, Answer, Stay},
};

/// What one visitor was told, to hold the site to it.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The account, once the site has confirmed it.
    pub(super) has_account: bool,
    /// How often each comment was sent, and how often it was confirmed.
    pub(super) comments: HashMap<String, (usize, usize)>,
    /// The order that each hold has become, as far as it was told.
    pub(super) orders: HashMap<String, String>,
    /// Whether somebody is followed; none where a request was left, which may still do anything.
    pub(super) follows: HashMap<String, Option<bool>>,
    /// How many requests were left, and how many were answered.
    pub(super) left: usize,
    pub(super) answered: usize,
}

pub(super) struct Visitor {
    pub(super) name: String,
    pub(super) notes: Notes,
    address: String,
    dice: Dice,
    session: Option<String>,
    /// What the last write took.
    usual: Duration,
}

impl Visitor {
    pub(super) fn new(name: String, address: String, dice: Dice) -> Self {
        let (session, notes) = (None, Notes::default());
        Self { name, address, dice, session, usual: Duration::from_millis(20), notes }
    }

    /// Does `times` things at the site. The others are there to be followed.
    pub(super) fn visit(&mut self, times: usize, events: &[String], others: &[String]) {
        for _ in 0..times {
            let event = self.dice.pick(&events.iter().collect::<Vec<_>>()).clone();
            match (self.session.is_some(), self.dice.below(10)) {
                (_, 0) => self.look("/"),
                (_, 1) => self.look("/search?q=storm"),
                (_, 2) => self.look(&format!("/events/{event}/live?opened=true")),
                (_, 3) => self.look(&format!("/events/{event}")),
                (false, _) => self.come_in(),
                (true, 4) => self.comment(&event),
                (true, 5) => self.follow(others),
                (true, _) => self.buy(&event),
            }
        }
    }

    /// Signs in, or up; as often as it takes.
    pub(super) fn come_in(&mut self) {
        let (name, password) = (self.name.clone(), PASSWORD);
        let form = format!("username={name}&email={name}%40example.com&password={password}");
        // Some come twice because they do not know whether they have been here.
        let paths = if self.dice.once_in(3) { ["/sign-in"; 2] } else { ["/sign-up", "/sign-in"] };
        for path in paths {
            for answer in self.send("POST", path, FORM, &form) {
                let session = answer.cookie("sessionid");
                assert_eq!(answer.status == 303, session.is_some(), "{path}: {answer:?}");
                self.notes.has_account |= session.is_some();
                self.session = session.or(self.session.take());
            }
            if self.session.is_some() {
                return;
            }
        }
    }

    /// Whether the session that the site gave is one, to the end.
    pub(super) fn check_session(&mut self) {
        for _ in 0..20 {
            if self.session.is_some() {
                break;
            }
            self.come_in();
        }
        let request = self.request("GET", "/api/v1/session", "", "");
        let answer = wire::ask(&self.address, request.as_bytes(), Stay::Whole).unwrap();
        assert_eq!(answer.status, 200, "{}: {answer:?}", self.name);
        assert!(answer.body.contains(&self.name), "{}: {answer:?}", self.name);
    }

    fn look(&mut self, path: &str) {
        let request = self.request("GET", path, "", "");
        let stay = match path.contains("/live") {
            // It has no end of its own.
            true => Stay::Read(self.dice.below(300) as usize),
            false => Stay::any(&mut self.dice, request.len(), self.usual),
        };
        match wire::ask(&self.address, request.as_bytes(), stay) {
            Some(answer) => assert_eq!(answer.status, 200, "{path}: {answer:?}"),
            None => self.notes.left += 1,
        }
    }

    fn comment(&mut self, event: &str) {
        if self.dice.once_in(4) {
            // Said in a transaction that is then not committed.
            let answers = self.send("POST", &format!("/events/{event}/comments"), FORM, "body=");
            answers.iter().for_each(|answer| assert_eq!(answer.status, 422, "{answer:?}"));
            return;
        }
        let body = format!("{} says {}", self.name, self.notes.comments.len());
        let sent = self.notes.left + self.notes.answered;
        let form = format!("body={}", body.replace(' ', "+"));
        let answers = self.send("POST", &format!("/events/{event}/comments"), FORM, &form);
        answers.iter().for_each(|answer| assert_eq!(answer.status, 303, "{answer:?}"));
        let sent = self.notes.left + self.notes.answered - sent;
        self.notes.comments.insert(body, (sent, answers.len()));
    }

    fn follow(&mut self, others: &[String]) {
        let others: Vec<_> = others.iter().filter(|other| **other != self.name).collect();
        let other = self.dice.pick(&others).clone();
        let is_wanted = self.dice.once_in(2);
        let verb = if is_wanted { "follow" } else { "unfollow" };
        let left = self.notes.left;
        let answers = self.send("POST", &format!("/people/{other}/{verb}"), FORM, "");
        let is_known = answers.iter().all(|answer| answer.status == 303) && self.notes.left == left;
        let known = self.notes.follows.entry(other).or_insert(Some(false));
        *known = known.and_then(|_| is_known.then_some(is_wanted));
    }

    fn buy(&mut self, event: &str) {
        let quantity = 1 + self.dice.below(3);
        let body = format!("{{\"quantity\": {quantity}}}");
        let held = self.send("POST", &format!("/api/v1/events/{event}/holds"), JSON, &body);
        // Of a double click the browser shows the last answer; the hold of the first is gone.
        let Some(answer) = held.into_iter().next_back() else { return };
        if answer.status == 409 {
            return; // sold out
        }
        assert_eq!(answer.status, 201, "{answer:?}");
        let hold = serde_json::from_str::<serde_json::Value>(&answer.body).unwrap();
        let hold = hold["id"].as_str().unwrap().to_owned();
        for _ in 0..4 {
            if !self.pay(&hold) {
                return;
            }
        }
    }

    /// Sends the order for a hold; whether it is worth sending again.
    fn pay(&mut self, hold: &str) -> bool {
        let card = self.dice.pick(CARDS);
        let name = &self.name;
        let is_page = self.dice.once_in(2);
        let answers = match is_page {
            true => {
                let card = card.replace(' ', "+");
                let form = format!("attendee={name}&email={name}%40example.com&card={card}");
                self.send("POST", &format!("/checkout/{hold}"), FORM, &form)
            }
            false => {
                let body = serde_json::json!({
                    "attendee": name, "email": format!("{name}@example.com"), "card": card,
                });
                let path = format!("/api/v1/holds/{hold}/order");
                self.send("POST", &path, JSON, &body.to_string())
            }
        };
        let mut is_open = true;
        for answer in answers {
            let number = match (answer.status, answer.header("location")) {
                (201, _) => {
                    let order: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
                    Some(order["number"].as_str().unwrap().to_owned())
                }
                (303, Some(to)) => to.strip_prefix("/orders/").map(str::to_owned),
                _ => None,
            };
            if let Some(number) = number {
                let before = self.notes.orders.insert(hold.to_owned(), number.clone());
                assert!(before.is_none_or(|before| before == number), "hold {hold} bought twice");
                is_open = false;
                continue;
            }
            match answer.status {
                // No answer from the provider, told to a browser and to a program.
                422 | 503 => {}
                // Declined, or no longer held.
                303 | 402 | 404 | 410 => is_open = false,
                _ => panic!("{answer:?}"),
            }
        }
        // Who has an order sometimes sends again all the same.
        is_open || self.dice.once_in(4)
    }

    /// Sends a request, sometimes twice at once; the answers to those that stayed.
    fn send(&mut self, method: &str, path: &str, media: &str, body: &str) -> Vec<Answer> {
        let request = self.request(method, path, media, body);
        let twins = if self.dice.once_in(5) { 2 } else { 1 };
        let stays: Vec<_> =
            (0..twins).map(|_| Stay::any(&mut self.dice, request.len(), self.usual)).collect();
        let (address, begun) = (&self.address, Instant::now());
        let answers: Vec<Answer> = thread::scope(|scope| {
            let asked: Vec<_> = stays
                .iter()
                .map(|stay| scope.spawn(|| wire::ask(address, request.as_bytes(), *stay)))
                .collect();
            asked.into_iter().filter_map(|asked| asked.join().unwrap()).collect()
        });
        if let [_] = &*answers {
            self.usual = begun.elapsed();
        }
        self.notes.answered += answers.len();
        self.notes.left += twins - answers.len();
        answers
    }

    fn request(&self, method: &str, path: &str, media: &str, body: &str) -> String {
        let token = "c".repeat(32);
        let body = match media {
            FORM if body.is_empty() => format!("csrfmiddlewaretoken={token}"),
            FORM => format!("{body}&csrfmiddlewaretoken={token}"),
            _ => body.to_owned(),
        };
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        request.push_str("connection: close\r\ncookie: csrftoken=");
        request.push_str(&token);
        if let Some(session) = &self.session {
            let _ = write!(request, "; sessionid={session}");
        }
        if !media.is_empty() {
            let _ = write!(request, "\r\ncontent-type: {media}\r\ncontent-length: {}", body.len());
        }
        request.push_str("\r\n\r\n");
        request.push_str(&body);
        request
    }
}

const PASSWORD: &str = "a+stormy+sentence";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
/// Two pay, one is declined, one pays and loses the answer, one never answers.
const CARDS: &[&str] = &[
    "4242 4242 4242 4242",
    "5555 5555 5555 4444",
    "4000 0000 0000 0002",
    "4000 0000 0000 0119",
    "4000 0000 0000 0127",
];
