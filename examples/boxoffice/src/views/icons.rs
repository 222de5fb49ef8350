//! The few line drawings of the site, in the colour of the text beside them.

use maud::{Markup, PreEscaped};

/// The site's mark: a ticket with its notches.
pub(crate) fn ticket() -> Markup {
    PreEscaped(r##"<svg viewBox="0 0 28 28" aria-hidden="true"><path fill="#f3b43a" d="M3 7a2 2 0 0 1 2-2h18a2 2 0 0 1 2 2v4a3 3 0 0 0 0 6v4a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-4a3 3 0 0 0 0-6z"/><path stroke="#241800" stroke-width="2" stroke-dasharray="2 2.5" d="M17.5 5.5v17"/><path fill="#241800" d="M7 10h7v2.2H7zm0 5h5v2.2H7z"/></svg>"##.into())
}

/// A magnifying glass.
pub(crate) fn lens() -> Markup {
    icon(r#"<circle cx="11" cy="11" r="6.5"/><path d="m16 16 5 5"/>"#)
}

/// A tick.
pub(crate) fn tick() -> Markup {
    icon(r#"<path d="m5 13 4.5 4.5L19 7"/>"#)
}

/// A download arrow.
pub(crate) fn download() -> Markup {
    icon(r#"<path d="M12 4v11m-5-5 5 5 5-5M5 20h14"/>"#)
}

fn icon(paths: &str) -> Markup {
    PreEscaped(format!(r#"<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">{paths}</svg>"#))
}
