//! The printed ticket: one page a ticket, A5 on its side, the code to scan on a stub at the right.
//!
//! Text is set in DejaVu Sans, of which only the letters in use are embedded: it has Latin, Greek
//! and Cyrillic whole. What it lacks (Chinese, say) prints as boxes.

use krilla::{
    Document,
    color::rgb,
    geom::{PathBuilder, Point, Rect},
    metadata::{DateTime, Metadata},
    num::NormalizedF32,
    page::PageSettings,
    paint::{Fill, Stroke, StrokeDash},
    surface::Surface,
    text::{Font, TextDirection},
};
use qrcode::{Color, EcLevel, QrCode};
use ttf_parser::Face;

use super::text;

/// What is printed, for all tickets of one order.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// The event's name.
    pub event: String,
    /// First day, `YYYY-MM-DD`.
    pub starts_on: String,
    /// Last day, `YYYY-MM-DD`.
    pub ends_on: String,
    /// Where it takes place, such as `Berlin, Germany`.
    pub place: String,
    /// Who organises it; empty when not known.
    pub organiser: String,
    /// Whose tickets they are.
    pub attendee: String,
    /// The order's number.
    pub order: String,
    /// What one seat cost, in the currency's smallest unit.
    pub price_cents: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// When the order was made, in milliseconds since 1970 UTC: the document's date.
    pub ordered_at_ms: i64,
    /// The signed code of each ticket, in order.
    pub codes: Vec<String>,
}

/// Why a ticket cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw a ticket: {0}")]
pub struct Error(String);

/// Draws the tickets of an order. The same sheet gives the same bytes.
///
/// Takes some milliseconds of CPU: call it off the async threads.
///
/// # Errors
/// [`Error`] when a code is too long for a QR code; nothing else is expected to fail.
pub fn draw(sheet: &Sheet) -> Result<Vec<u8>, Error> {
    let fonts = Fonts::load()?;
    let mut document = Document::new();
    document.set_metadata(metadata(sheet));
    for (place, code) in sheet.codes.iter().enumerate() {
        let size = PageSettings::from_wh(WIDTH, HEIGHT).ok_or_else(|| failed("no page"))?;
        let mut page = document.start_page_with(size);
        {
            let mut pen = Pen { surface: page.surface(), fonts: &fonts };
            pen.ticket(sheet, place + 1);
            pen.stub(sheet, code)?;
        }
        page.finish();
    }
    document.finish().map_err(|error| failed(&format!("{error:?}")))
}

struct Fonts {
    plain: (Font, Face<'static>),
    bold: (Font, Face<'static>),
}

impl Fonts {
    fn load() -> Result<Self, Error> {
        let one = |bytes: &'static [u8]| {
            let font = Font::new(bytes.into(), 0).ok_or_else(|| failed("no font"))?;
            let face = Face::parse(bytes, 0).map_err(|error| failed(&error.to_string()))?;
            Ok((font, face))
        };
        Ok(Self { plain: one(dejavu::sans::regular())?, bold: one(dejavu::sans::bold())? })
    }
}

#[derive(Clone, Copy)]
enum Weight {
    Plain,
    Bold,
}

struct Pen<'p> {
    surface: Surface<'p>,
    fonts: &'p Fonts,
}

impl Pen<'_> {
    fn ticket(&mut self, sheet: &Sheet, place: usize) {
        self.rect(0.0, 0.0, WIDTH, HEIGHT, PAPER);
        self.rect(0.0, 0.0, 10.0, HEIGHT, ACCENT);
        self.text(LEFT, 48.0, 9.0, Weight::Bold, ACCENT, "ADMIT ONE");
        if sheet.codes.len() > 1 {
            let of = format!("Ticket {place} of {}", sheet.codes.len());
            self.text(LEFT + 78.0, 48.0, 9.0, Weight::Plain, GREY, &of);
        }
        let size = if sheet.event.chars().count() > 48 { 20.0 } else { 27.0 };
        let mut y = 86.0;
        for line in text::lines(&self.fonts.bold.1, &sheet.event, size, ROOM, 3) {
            self.text(LEFT, y, size, Weight::Bold, INK, &line);
            y += size * 1.25;
        }
        if !sheet.organiser.is_empty() {
            let by = format!("by {}", sheet.organiser);
            for line in text::lines(&self.fonts.plain.1, &by, 11.0, ROOM, 1) {
                self.text(LEFT, y, 11.0, Weight::Plain, GREY, &line);
            }
        }
        let when = text::days(&sheet.starts_on, &sheet.ends_on);
        self.field(LEFT, 226.0, ROOM, "WHEN", &when);
        self.field(LEFT, 276.0, ROOM, "WHERE", &sheet.place);
        self.field(LEFT, 326.0, ROOM * 0.68, "ATTENDEE", &sheet.attendee);
        let price = text::price(sheet.price_cents, &sheet.currency);
        self.field(LEFT + ROOM * 0.72, 326.0, ROOM * 0.28, "PRICE", &price);
        let note =
            "Good for one entry. Show it on paper or on a screen; keep the code to yourself.";
        self.text(LEFT, HEIGHT - 26.0, 7.5, Weight::Plain, GREY, note);
    }

    fn stub(&mut self, sheet: &Sheet, code: &str) -> Result<(), Error> {
        self.perforation(STUB);
        let left = STUB + 22.0;
        let side = WIDTH - left - 22.0;
        self.qr(left, 40.0, side, code)?;
        self.field(left, 40.0 + side + 30.0, side, "ORDER", &sheet.order);
        self.field(left, 40.0 + side + 78.0, side, "NAME", &sheet.attendee);
        self.text(left, HEIGHT - 26.0, 7.5, Weight::Bold, GREY, "boxoffice");
        Ok(())
    }

    /// A small label with what it names below it, made smaller rather than cut.
    fn field(&mut self, x: f32, y: f32, room: f32, label: &str, value: &str) {
        self.text(x, y, 7.0, Weight::Bold, GREY, label);
        let face = &self.fonts.bold.1;
        let fits = |size: &f32| text::width(face, value, *size) <= room;
        let size = [13.0, 12.0, 11.0, 10.0, 9.0].into_iter().find(fits);
        let lines = text::lines(face, value, size.unwrap_or(9.0), room, 2);
        for (line, row) in lines.iter().zip([0.0, 1.0]) {
            let size = size.unwrap_or(9.0);
            self.text(x, y + 17.0 + row * size * 1.25, size, Weight::Bold, INK, line);
        }
    }

    fn text(&mut self, x: f32, y: f32, size: f32, weight: Weight, color: Ink, text: &str) {
        let font = match weight {
            Weight::Plain => &self.fonts.plain.0,
            Weight::Bold => &self.fonts.bold.0,
        };
        self.fill(color);
        let at = Point::from_xy(x, y);
        self.surface.draw_text(at, font.clone(), size, text, false, TextDirection::Auto);
    }

    fn rect(&mut self, x: f32, y: f32, width: f32, height: f32, color: Ink) {
        let mut path = PathBuilder::new();
        if let Some(rect) = Rect::from_xywh(x, y, width, height) {
            path.push_rect(rect);
        }
        self.fill(color);
        if let Some(path) = path.finish() {
            self.surface.draw_path(&path);
        }
    }

    fn perforation(&mut self, x: f32) {
        let mut path = PathBuilder::new();
        path.move_to(x, 14.0);
        path.line_to(x, HEIGHT - 14.0);
        let dash = Some(StrokeDash { array: vec![2.0, 5.0], offset: 0.0 });
        let (r, g, b) = GREY;
        let paint = rgb::Color::new(r, g, b).into();
        self.surface.set_fill(None);
        self.surface.set_stroke(Some(Stroke { paint, width: 1.0, dash, ..Stroke::default() }));
        if let Some(path) = path.finish() {
            self.surface.draw_path(&path);
        }
        self.surface.set_stroke(None);
    }

    /// The code as one path of black runs, so that no viewer shows seams between the squares.
    fn qr(&mut self, x: f32, y: f32, side: f32, code: &str) -> Result<(), Error> {
        let code = QrCode::with_error_correction_level(code, EcLevel::M)
            .map_err(|error| failed(&error.to_string()))?;
        let modules = code.width();
        let colors = code.to_colors();
        let unit = side / f32::from(u16::try_from(modules).unwrap_or(u16::MAX));
        let at = |place: usize| f32::from(u16::try_from(place).unwrap_or(u16::MAX)) * unit;
        self.rect(x - 8.0, y - 8.0, side + 16.0, side + 16.0, WHITE);
        let mut path = PathBuilder::new();
        for (row, colors) in colors.chunks(modules).enumerate() {
            let mut column = 0;
            for run in colors.chunk_by(|one, next| one == next) {
                if run[0] == Color::Dark {
                    let rect = Rect::from_xywh(x + at(column), y + at(row), at(run.len()), unit);
                    rect.into_iter().for_each(|rect| path.push_rect(rect));
                }
                column += run.len();
            }
        }
        self.fill(BLACK);
        if let Some(path) = path.finish() {
            self.surface.draw_path(&path);
        }
        Ok(())
    }

    fn fill(&mut self, (r, g, b): Ink) {
        let paint = rgb::Color::new(r, g, b).into();
        let opacity = NormalizedF32::ONE;
        self.surface.set_fill(Some(Fill { paint, opacity, rule: Default::default() }));
    }
}

fn metadata(sheet: &Sheet) -> Metadata {
    let mut metadata = Metadata::new()
        .title(format!("{}: order {}", sheet.event, sheet.order))
        .creator("boxoffice".to_owned())
        .document_id(sheet.order.clone())
        .language("en".to_owned());
    if let Ok(at) = jiff::Timestamp::from_millisecond(sheet.ordered_at_ms) {
        let at = at.to_zoned(jiff::tz::TimeZone::UTC);
        let number = |n: i8| u8::try_from(n).unwrap_or_default();
        let date = DateTime::new(u16::try_from(at.year()).unwrap_or_default())
            .month(number(at.month()))
            .day(number(at.day()))
            .hour(number(at.hour()))
            .minute(number(at.minute()))
            .second(number(at.second()));
        metadata = metadata.creation_date(date);
    }
    metadata
}

fn failed(what: &str) -> Error {
    Error(what.to_owned())
}

type Ink = (u8, u8, u8);

const PAPER: Ink = (252, 250, 246);
const WHITE: Ink = (255, 255, 255);
const BLACK: Ink = (0, 0, 0);
const INK: Ink = (28, 27, 31);
const GREY: Ink = (110, 106, 116);
const ACCENT: Ink = (200, 58, 44);

/// A5 on its side, in points.
const WIDTH: f32 = 595.28;
const HEIGHT: f32 = 419.53;
const LEFT: f32 = 38.0;
/// Where the stub is torn off.
const STUB: f32 = 410.0;
const ROOM: f32 = STUB - LEFT - 22.0;
