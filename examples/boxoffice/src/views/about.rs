//! How the site works, told to whoever visits it.

use maud::{Markup, html};

pub(crate) fn about() -> Markup {
    html! {
        div.text.doc {
            div.head { h1 { "How it works" } p { "boxoffice lists events, sells their tickets and gives each a place to talk. This is what happens behind the page." } }
            h2 { "Finding an event" }
            p { "Every list is read by key range: a page of results begins where the last one ended, so the thousandth page costs what the first does, and nothing is skipped when events are added while you read. " a href="/events" { "Browse" } " by topic, country and time, or search by the beginnings of words." }
            h2 { "Holding and buying seats" }
            p { "When you ask for seats they are taken out of sale for ten minutes, in one database transaction that refuses to hand out more than there are. Two people who want the last seat: one gets it, the other is told at once. If you do not pay in time the seats go back by themselves." }
            p { "Paying turns the hold into an order in one more transaction, which also writes down the work that follows: drawing the ticket and mailing it. Either all of it happened or none of it." }
            h2 { "The ticket" }
            p { "A worker draws the PDF with its code and mails it. The order page is there at once and shows the ticket when it is ready, by itself or when you reload. A code is good once." }
            h2 { "Talking" }
            p { "Every event has a discussion that stays open afterwards. New comments and the number of seats left arrive on the open page without reloading it. Report what should not be there: moderators see it in order." }
            h2 { "Following" }
            p { "Follow organisers and people; your " a href="/timeline" { "timeline" } " shows what they announce and say." }
            h2 { "Without JavaScript, by keyboard, on paper" }
            p { "Every page works without scripts, with the keyboard alone and with a screen reader. Colours follow your system unless you choose at the foot of the page. An order prints on one sheet." }
            h2 { "For programs" }
            p { "What the pages show is also there as JSON, described by an OpenAPI document: see the " a href="/api" { "API" } "." }
            h2 { "What we keep" }
            p { "Your name, address and orders, and what you write. One signed cookie when you sign in, one for colours if you choose some. No trackers, nothing loaded from elsewhere." }
        }
    }
}
