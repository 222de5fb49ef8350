//! The demo's people, events and talk. Numbers are places in the lists above them.

use jiff::civil::Weekday;

pub(super) struct Person {
    pub(super) username: &'static str,
    pub(super) name: &'static str,
    pub(super) bio: &'static str,
}

pub(super) struct Organiser {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) owner: usize,
}

pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) topic: &'static str,
    pub(super) city: &'static str,
    pub(super) country: &'static str,
    pub(super) in_days: i32,
    pub(super) lasts: i32,
    /// Moved on to this day of the week.
    pub(super) weekday: Option<Weekday>,
    pub(super) organiser: usize,
    pub(super) capacity: i32,
    pub(super) price_cents: i64,
    pub(super) currency: &'static str,
    pub(super) about: &'static str,
}

#[derive(Clone, Copy)]
pub(super) enum Follows {
    Person(usize),
    Organiser(usize),
}

/// The first one moderates.
pub(super) const PEOPLE: &[Person] = &[
    Person {
        username: "ana",
        name: "Ana Almeida",
        bio: "Runs the Harbour Stage and looks after the discussions here.",
    },
    Person { username: "tomasz", name: "Tomasz Żuk", bio: "Compilers by day, bread by night." },
    Person { username: "priya", name: "Priya Raman", bio: "Data journalist. Maps, mostly." },
    Person { username: "jonas", name: "Jonas Weber", bio: "Never missed a Systems Day." },
    Person { username: "eleni", name: "Ελένη Παππά", bio: "Film programmer in Athens." },
    Person { username: "soren", name: "Søren Larsen", bio: "Runs far, reads slowly." },
    Person { username: "mei", name: "Mei Tanaka", bio: "" },
    Person {
        username: "dmitri", name: "Дмитрий Орлов", bio: "Photographs empty theatres."
    },
];

pub(super) const ORGANISERS: &[Organiser] = &[
    Organiser {
        name: "Harbour Stage",
        about: "Concerts and readings in an old customs house.",
        owner: 0,
    },
    Organiser {
        name: "Systems Days",
        about: "A small conference about software that keeps running.",
        owner: 1,
    },
    Organiser {
        name: "Open Maps",
        about: "Workshops on data, maps and the stories in them.",
        owner: 2,
    },
    Organiser {
        name: "Cine Athena",
        about: "Old films on a roof, new films before anyone else.",
        owner: 4,
    },
    Organiser { name: "Slow Run Club", about: "Long runs, no hurry.", owner: 5 },
];

impl Event {
    const fn new(name: &'static str, topic: &'static str, about: &'static str) -> Self {
        Self {
            name,
            topic,
            city: "",
            country: "",
            in_days: 0,
            lasts: 1,
            weekday: None,
            organiser: 0,
            capacity: 0,
            price_cents: 0,
            currency: "EUR",
            about,
        }
    }

    const fn at(self, city: &'static str, country: &'static str) -> Self {
        Self { city, country, ..self }
    }

    const fn days(self, in_days: i32, lasts: i32) -> Self {
        Self { in_days, lasts, ..self }
    }

    const fn on(self, weekday: Weekday) -> Self {
        Self { weekday: Some(weekday), ..self }
    }

    const fn by(self, organiser: usize) -> Self {
        Self { organiser, ..self }
    }

    const fn seats(self, capacity: i32, price_cents: i64, currency: &'static str) -> Self {
        Self { capacity, price_cents, currency, ..self }
    }
}

pub(super) const EVENTS: &[Event] = &[
    Event::new("Systems Days Berlin", "rust", "Two days about software that has to keep running: schedulers, storage, and the people on call for them.\n\nOne track, long breaks, no sponsored talks. Lunch and coffee are included; childcare is free if you tell us a week before.").at("Berlin", "Germany").days(24, 2).by(1).seats(240, 18900, "EUR"),
    Event::new("Northern Lights Quartet", "music", "Sibelius by candlelight in the old customs house. Doors at seven, music at eight, soup afterwards.").at("Copenhagen", "Denmark").days(6, 1).by(0).seats(120, 22000, "DKK"),
    Event::new("Maps Without Borders", "data", "A workshop for people with a spreadsheet and a question. Bring both; leave with a map that answers it.").at("Amsterdam", "Netherlands").days(12, 1).by(2).seats(40, 4500, "EUR"),
    Event::new("Silent Film with Live Piano", "film", "Three short comedies from 1924 on the roof, with a pianist who has seen none of them before.").at("Athens", "Greece").days(17, 1).by(3).seats(90, 1200, "EUR"),
    Event::new("Coastal Trail Half Marathon", "running", "Twenty-one kilometres of cliff path. Walkers welcome: the last finisher gets the largest cake.").at("Lisbon", "Portugal").days(45, 1).by(4).seats(300, 3500, "EUR"),
    Event::new("Async in Anger", "rust", "An evening online about what happens after the tutorial: cancellation, backpressure, and finding out what a task is waiting for.").days(9, 1).by(1).seats(500, 0, "EUR"),
    Event::new("The Reader's Table", "books", "One book, one long table, dinner in four courses. This month: a novel in which nothing happens, beautifully.").at("Hamburg", "Germany").days(20, 1).by(0).seats(24, 1500, "EUR"),
    Event::new("Frontend Kitchen", "javascript", "Small teams cook a small product in two days. Mentors taste. No prizes, plenty of food.").at("Barcelona", "Spain").days(31, 2).by(2).seats(160, 9900, "EUR"),
    Event::new("Harbour Stage: Winter Opening", "music", "Four bands, two floors, one harbour. The bar takes cards and the night ferry waits for us.").at("Hamburg", "Germany").days(38, 1).by(0).seats(400, 2800, "EUR"),
    Event::new("Python for Archivists", "python", "Three days of reading old files with new tools. You need no programming, only patience and a scanner's worth of stories.").at("Vienna", "Austria").days(52, 3).by(2).seats(30, 14000, "EUR"),
    Event::new("Observability Day", "devops", "Metrics, traces, and the quiet art of not being woken up. Talks in the morning, a broken system to repair in the afternoon.").at("Zürich", "Switzerland").days(59, 1).by(1).seats(180, 21000, "CHF"),
    Event::new("Sourdough and Type Systems", "food", "We knead while it rests and prove while it rises. One loaf and one theorem each.").at("Kraków", "Poland").days(14, 1).by(1).seats(18, 9000, "PLN"),
    Event::new("Festival of Short Documentaries", "film", "Forty films, none longer than twenty minutes, and their makers in the room.").at("Montréal", "Canada").days(66, 4).by(3).seats(220, 6000, "CAD"),
    Event::new("Security for Small Teams", "security", "Threats you really have, and defences you can keep up. Led by people who clean up afterwards.").at("London", "U.K.").days(73, 1).by(1).seats(80, 12000, "GBP"),
    Event::new("Night Photography Walk", "photography", "Tripods, bridges and fog. We meet at the tower at nine and stop when the trams do.").at("Prague", "Czech Republic").days(4, 1).by(3).seats(15, 45000, "CZK"),
    Event::new("Climate Data Hackday", "climate", "Open data from forty weather stations and two satellites. Come with a team or find one.").at("Copenhagen", "Denmark").days(80, 2).by(2).seats(100, 0, "DKK"),
    Event::new("Sunday Long Run", "running", "Eighteen kilometres round the hill at a pace at which you can talk. Coffee after.").at("Edinburgh", "U.K.").days(2, 1)
    .on(Weekday::Sunday).by(4).seats(60, 0, "GBP"),
    Event::new("Game Makers' Fair", "games", "Two halls of games that fit in a suitcase: card games, tiny consoles, and one that is played with bread.").at("Kyoto", "Japan").days(95, 2).by(3).seats(350, 300000, "JPY"),
    Event::new("Databases at the Lake", "data", "Storage engines, replication, and swimming. Bring a towel.").at("Zürich", "Switzerland").days(110, 2).by(1).seats(150, 32000, "CHF"),
    Event::new("Design for the Long Now", "design", "Things that should still work in fifty years: signs, forms, chairs, file formats.").at("Stockholm", "Sweden").days(124, 1).by(2).seats(140, 120000, "SEK"),
    Event::new("Rust for Radio Amateurs", "rust", "A receiver in an afternoon, and an antenna on the roof by dusk.").at("Bangalore", "India").days(137, 1).by(1).seats(60, 150000, "INR"),
    Event::new("Open Rehearsal: Youth Orchestra", "music", "Sit between the violas and the horns while eighty people learn the same page.").at("Lyon", "France").days(8, 1).by(0).seats(200, 0, "EUR"),
    Event::new("Street Food Atlas", "food", "Six neighbourhoods, six stalls, one long walk, and the maps that led us there.").at("New York", "U.S.A.").days(48, 1).by(2).seats(75, 5500, "USD"),
    Event::new("Science Slam", "science", "Ten minutes, no jargon, your own research. The audience decides with applause and a very old meter.").at("Berlin", "Germany").days(27, 1).by(0).seats(320, 900, "EUR"),
    Event::new("Harbour Stage: Summer Closing", "music", "The last night on the open deck.").at("Hamburg", "Germany").days(-41, 1).by(0).seats(400, 2800, "EUR"),
    Event::new("Systems Days Porto", "rust", "Two days about software that has to keep running. The recordings are online.").at("Porto", "Portugal").days(-160, 2).by(1).seats(200, 16900, "EUR"),
];

/// Event, author, hours ago, words.
pub(super) const TALK: &[(usize, usize, i64, &str)] = &[
    (0, 3, 190, "Third time for me. The hallway is the best track."),
    (0, 6, 160, "Is there a list of trains that arrive before nine?"),
    (
        0,
        1,
        158,
        "There is now, on the second page of the programme. The 6:10 from Hamburg just makes it.",
    ),
    (0, 2, 40, "Will there be a room for small talks on short notice?"),
    (0, 1, 39, "Two, with a whiteboard each."),
    (1, 5, 70, "Soup AND Sibelius. Sold."),
    (1, 7, 20, "May I bring a camera if it makes no sound?"),
    (1, 0, 19, "Yes, from the gallery, without flash."),
    (2, 6, 100, "I have a spreadsheet with 40,000 trees in it. Is that a question?"),
    (2, 2, 99, "It is the beginning of several."),
    (3, 7, 55, "Last year's pianist fell off the chair laughing and kept playing."),
    (4, 5, 210, "Training plan: talk first, run later."),
    (4, 3, 30, "How large is the cake?"),
    (4, 5, 29, "It takes two people to carry it."),
    (5, 1, 12, "Questions can be sent in beforehand, and anonymous ones are fine."),
    (6, 4, 80, "Coming with my whole reading circle."),
    (7, 6, 8, "Vegetarian mentors?"),
    (14, 7, 16, "Bring gloves without fingers. And fingers."),
    (16, 3, 26, "Is it flat?"),
    (16, 5, 25, "It is Edinburgh."),
    (23, 2, 60, "Is it allowed to slam about slamming?"),
    (24, 3, 900, "What a night. Thank you all."),
];

pub(super) const FOLLOWS: &[(usize, Follows)] = &[
    (0, Follows::Organiser(1)),
    (0, Follows::Person(1)),
    (1, Follows::Organiser(0)),
    (1, Follows::Person(3)),
    (2, Follows::Organiser(1)),
    (2, Follows::Organiser(3)),
    (3, Follows::Organiser(1)),
    (3, Follows::Person(1)),
    (3, Follows::Person(5)),
    (4, Follows::Organiser(0)),
    (4, Follows::Person(7)),
    (5, Follows::Organiser(4)),
    (5, Follows::Person(0)),
    (6, Follows::Organiser(2)),
    (6, Follows::Person(2)),
    (7, Follows::Organiser(3)),
    (7, Follows::Person(4)),
    (0, Follows::Organiser(3)),
];
