//! Posters: a small picture for each event, drawn from its id and topic, so that lists look alive
//! without anybody uploading anything. The same event always gets the same poster.

use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

/// A poster for a card, twice as wide as high; crop it with CSS.
pub(crate) fn poster(id: i64, topic: &str) -> Markup {
    draw(id, topic, 6)
}

/// A wide poster for the head of an event's page.
pub(crate) fn banner(id: i64, topic: &str) -> Markup {
    draw(id, topic, 10)
}

/// The round face of a person or organiser: two letters on a colour of their own.
/// `key` is what never changes about them.
pub(crate) fn face(key: &str, name: &str, big: bool) -> Markup {
    let palette = &PALETTES[(Dice(sum(key)).roll() % PALETTES.len() as u64) as usize];
    let letters = initials(name);
    html! {
        span.face.big[big] aria-hidden="true" {
            svg viewBox="0 0 40 40" {
                rect width="40" height="40" fill=(palette.ground) {}
                text x="20" y="26" text-anchor="middle" font-size="16" font-weight="700"
                    fill=(palette.light) { (letters) }
            }
        }
    }
}

fn draw(id: i64, topic: &str, columns: i32) -> Markup {
    let mut dice = Dice(id as u64 ^ 0x5eed);
    let palette = palette(topic, dice.roll());
    let motifs = MOTIFS[(dice.roll() % MOTIFS.len() as u64) as usize];
    let mut layers = [const { String::new() }; 3];
    for row in 0..ROWS {
        for column in 0..columns {
            let roll = dice.roll();
            let motif = motifs[(roll % motifs.len() as u64) as usize];
            let layer = &mut layers[LAYERS[(roll >> 8) as usize % LAYERS.len()]];
            motif.stamp(layer, column * TILE, row * TILE, (roll >> 16) as u8 % 4);
        }
    }
    let (width, height) = (columns * TILE, ROWS * TILE);
    let mut svg = String::with_capacity(2_048);
    let _ = write!(
        svg,
        r#"<svg viewBox="0 0 {width} {height}" preserveAspectRatio="xMidYMid slice" aria-hidden="true" focusable="false"><path fill="{}" d="M0 0h{width}v{height}H0z"/>"#,
        palette.ground
    );
    for (path, colour) in layers.iter().zip([palette.light, palette.warm, palette.cool]) {
        let _ = write!(svg, r#"<path fill="{colour}" fill-rule="evenodd" d="{path}"/>"#);
    }
    svg.push_str("</svg>");
    PreEscaped(svg)
}

/// A topic keeps to three neighbouring palettes, so that its events look related.
fn palette(topic: &str, roll: u64) -> &'static Palette {
    &PALETTES[((sum(topic) % 97 + roll % 3) % PALETTES.len() as u64) as usize]
}

fn sum(text: &str) -> u64 {
    text.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

/// The first letters of the first and last word, or the first letter alone.
fn initials(name: &str) -> String {
    let mut words =
        name.split_whitespace().filter_map(|word| word.chars().find(|c| c.is_alphanumeric()));
    let first = words.next().unwrap_or('·');
    let last = words.next_back().filter(|_| first.is_ascii());
    first.to_uppercase().chain(last.into_iter().flat_map(char::to_uppercase)).collect()
}

#[derive(Clone, Copy)]
enum Motif {
    Quarter,
    Half,
    Disc,
    Ring,
    Corner,
    Bars,
    Dots,
    Block,
    Blank,
}

impl Motif {
    /// Appends the outline of this motif in the tile at `x`, `y`, turned by `turn` quarters.
    fn stamp(self, path: &mut String, x: i32, y: i32, turn: u8) {
        let (far_x, far_y) = (x + TILE, y + TILE);
        let _ = match (self, turn) {
            (Self::Quarter, 0) => write!(path, "M{x} {y}h12a12 12 0 0 1-12 12z"),
            (Self::Quarter, 1) => write!(path, "M{far_x} {y}v12a12 12 0 0 1-12-12z"),
            (Self::Quarter, 2) => write!(path, "M{far_x} {far_y}h-12a12 12 0 0 1 12-12z"),
            (Self::Quarter, _) => write!(path, "M{x} {far_y}v-12a12 12 0 0 1 12 12z"),
            (Self::Half, 0) => write!(path, "M{x} {far_y}a6 6 0 0 1 12 0z"),
            (Self::Half, 1) => write!(path, "M{x} {y}a6 6 0 0 1 0 12z"),
            (Self::Half, 2) => write!(path, "M{x} {y}a6 6 0 0 0 12 0z"),
            (Self::Half, _) => write!(path, "M{far_x} {y}a6 6 0 0 0 0 12z"),
            (Self::Disc, _) => {
                write!(path, "M{x} {}a6 6 0 1 0 12 0a6 6 0 1 0-12 0z", y + 6)
            }
            (Self::Ring, _) => write!(
                path,
                "M{x} {}a6 6 0 1 0 12 0a6 6 0 1 0-12 0zm3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
                y + 6
            ),
            (Self::Corner, 0) => write!(path, "M{x} {y}h12l-12 12z"),
            (Self::Corner, 1) => write!(path, "M{x} {y}h12v12z"),
            (Self::Corner, 2) => write!(path, "M{far_x} {y}v12h-12z"),
            (Self::Corner, _) => write!(path, "M{x} {y}v12h12z"),
            (Self::Bars, 0 | 2) => {
                write!(path, "M{x} {y}h12v2h-12zm0 4h12v2h-12zm0 4h12v2h-12z")
            }
            (Self::Bars, _) => write!(path, "M{x} {y}v12h2v-12zm4 0v12h2v-12zm4 0v12h2v-12z"),
            (Self::Dots, _) => write!(
                path,
                "M{} {}a2 2 0 1 0 4 0a2 2 0 1 0-4 0zm6 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0zm-6 6a2 2 0 1 0 4 0a2 2 0 1 0-4 0zm6 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0z",
                x + 1,
                y + 3
            ),
            (Self::Block, _) => write!(path, "M{x} {y}h12v12h-12z"),
            (Self::Blank, _) => Ok(()),
        };
    }
}

struct Palette {
    ground: &'static str,
    light: &'static str,
    warm: &'static str,
    cool: &'static str,
}

/// SplitMix64: a fixed, well mixed sequence from one number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

const TILE: i32 = 12;
const ROWS: i32 = 3;
/// Which of the three colours a tile takes: the light one twice as often as the others.
const LAYERS: [usize; 4] = [0, 0, 1, 2];

const MOTIFS: [&[Motif]; 7] = [
    &[Motif::Quarter, Motif::Quarter, Motif::Quarter, Motif::Disc, Motif::Blank],
    &[Motif::Half, Motif::Half, Motif::Block, Motif::Blank],
    &[Motif::Bars, Motif::Bars, Motif::Quarter, Motif::Blank],
    &[Motif::Corner, Motif::Corner, Motif::Disc, Motif::Blank],
    &[Motif::Disc, Motif::Ring, Motif::Dots, Motif::Blank],
    &[Motif::Quarter, Motif::Bars, Motif::Corner, Motif::Ring, Motif::Blank],
    &[Motif::Half, Motif::Dots, Motif::Quarter, Motif::Blank, Motif::Blank],
];

const PALETTES: [Palette; 12] = [
    Palette { ground: "#0b4f3e", light: "#efe8d2", warm: "#f2b33d", cool: "#4ea389" },
    Palette { ground: "#1c2541", light: "#f4e3b2", warm: "#f4a259", cool: "#5b8e7d" },
    Palette { ground: "#4a1942", light: "#f6dfc6", warm: "#e76f51", cool: "#b58db6" },
    Palette { ground: "#0f4c5c", light: "#f6e7cb", warm: "#e9722b", cool: "#9fd3c7" },
    Palette { ground: "#7a2430", light: "#fcdcb5", warm: "#f2994a", cool: "#2b2d42" },
    Palette { ground: "#2f3e46", light: "#e4e8e0", warm: "#f6bd60", cool: "#84a98c" },
    Palette { ground: "#1d3fa5", light: "#f6f5f1", warm: "#ffd23f", cool: "#86a6f0" },
    Palette { ground: "#3a5a40", light: "#e9e5d3", warm: "#f07167", cool: "#a3b18a" },
    Palette { ground: "#2d1e2f", light: "#f3e9dc", warm: "#f15946", cool: "#53b3cb" },
    Palette { ground: "#8a5a0a", light: "#fef3dc", warm: "#ffcf56", cool: "#1b4332" },
    Palette { ground: "#3b3486", light: "#efe9ff", warm: "#ffb26b", cool: "#8f86e0" },
    Palette { ground: "#5b2a1d", light: "#f7e6d4", warm: "#ef9a5a", cool: "#6f9ea6" },
];

#[cfg(test)]
mod tests {
    use super::{face, initials, poster};

    #[test]
    fn an_event_keeps_its_poster() {
        assert_eq!(poster(42, "rust").0, poster(42, "rust").0);
        assert_ne!(poster(42, "rust").0, poster(43, "rust").0);
    }

    #[test]
    fn posters_stay_small() {
        for id in 0..500 {
            assert!(poster(id, "javascript").0.len() < 3_000);
        }
    }

    #[test]
    fn initials_fit_any_script() {
        assert_eq!(initials("Ada Lovelace"), "AL");
        assert_eq!(initials("ada"), "A");
        assert_eq!(initials("王秀英"), "王");
        assert_eq!(initials("  "), "·");
        assert!(!face("ada", "<script>", false).0.contains("<script"));
    }
}
