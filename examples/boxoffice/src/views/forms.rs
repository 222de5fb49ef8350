//! Form fields with their label, hint and problem tied together for every kind of reader.

use maud::{Markup, html};

use crate::models::Problems;

/// What was typed into a form and what was wrong with it.
pub(crate) struct Filled<'a> {
    /// The value of each field, as it was sent.
    pub(crate) values: &'a dyn Fn(&str) -> String,
    /// What to say beside which field.
    pub(crate) problems: &'a Problems,
}

/// One field of a form.
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    pub(crate) label: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) hint: &'a str,
    pub(crate) autocomplete: &'a str,
    pub(crate) max_length: u32,
    pub(crate) is_required: bool,
}

impl Default for Field<'_> {
    fn default() -> Self {
        Self {
            name: "",
            label: "",
            kind: "text",
            hint: "",
            autocomplete: "off",
            max_length: 200,
            is_required: true,
        }
    }
}

impl Filled<'_> {
    /// A list of everything wrong, each linked to its field; nothing when all is well.
    pub(crate) fn summary(&self) -> Markup {
        html! {
            @if !self.problems.is_empty() {
                div.note.bad role="alert" {
                    strong { "Please look at this again" }
                    ul {
                        @for (field, problem) in self.problems.iter() {
                            li {
                                // A whole sentence stands alone; the rest of one follows the field's name.
                                @if problem.starts_with(char::is_uppercase) { a href={ "#f-" (field) } { (problem) } }
                                @else { a href={ "#f-" (field) } { (label(field)) } " " (problem) }
                            }
                        }
                    }
                }
            }
        }
    }

    /// An input with its label. Passwords are never sent back.
    pub(crate) fn input(&self, field: &Field<'_>) -> Markup {
        let value =
            if field.kind == "password" { String::new() } else { (self.values)(field.name) };
        self.around(field, |about, wrong| html! {
            input id={ "f-" (field.name) } name=(field.name) type=(field.kind) value=(value)
                maxlength=[is_text(field.kind).then_some(field.max_length)] required[field.is_required]
                min=[(field.kind == "number").then_some("0")]
                autocomplete=(field.autocomplete)
                aria-describedby=[about] aria-invalid=[wrong];
        })
    }

    /// A text of several lines with its label.
    pub(crate) fn area(&self, field: &Field<'_>) -> Markup {
        self.around(field, |about, wrong| {
            html! {
                textarea id={ "f-" (field.name) } name=(field.name) maxlength=(field.max_length)
                    required[field.is_required] aria-describedby=[about] aria-invalid=[wrong] {
                    // The first line break in a textarea is not part of its text.
                    "\n" ((self.values)(field.name))
                }
            }
        })
    }

    /// A choice of one among `options`, each a value and its words.
    pub(crate) fn select(&self, field: &Field<'_>, options: &[(&str, &str)]) -> Markup {
        let chosen = (self.values)(field.name);
        self.around(field, |about, wrong| html! {
            select id={ "f-" (field.name) } name=(field.name) aria-describedby=[about] aria-invalid=[wrong] {
                @for (value, words) in options {
                    option value=(value) selected[*value == chosen] { (words) }
                }
            }
        })
    }

    fn around(
        &self,
        field: &Field<'_>,
        control: impl FnOnce(Option<String>, Option<&'static str>) -> Markup,
    ) -> Markup {
        let problem = self.problems.of(field.name);
        let hint_id = format!("h-{}", field.name);
        let wrong_id = format!("w-{}", field.name);
        let about = match (problem.is_some(), field.hint.is_empty()) {
            (true, true) => Some(wrong_id.clone()),
            (true, false) => Some(format!("{wrong_id} {hint_id}")),
            (false, false) => Some(hint_id.clone()),
            (false, true) => None,
        };
        html! {
            div.field {
                label for={ "f-" (field.name) } {
                    (field.label)
                    @if !field.is_required { " " span.soft.small { "(optional)" } }
                }
                @if !field.hint.is_empty() { p.hint id=(hint_id) { (field.hint) } }
                (control(about, problem.map(|_| "true")))
                @if let Some(problem) = problem { p.wrong id=(wrong_id) { (super::capital(problem)) } }
            }
        }
    }
}

/// What a field is called in the summary: mostly its name.
fn label(field: &str) -> String {
    super::capital(match field {
        "starts_on" => "first day",
        "ends_on" => "last day",
        "url" => "website",
        "bio" => "about you",
        "attendee" => "name on the tickets",
        "card" => "card number",
        other => other,
    })
}

fn is_text(kind: &str) -> bool {
    !matches!(kind, "number" | "date")
}
