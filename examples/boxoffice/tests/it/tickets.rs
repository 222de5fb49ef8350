//! Tickets: the printed page.

use std::process::Command;

use boxoffice::tickets::pdf::{self, Sheet};

fn sheet() -> Sheet {
    Sheet {
        event: "RustFest Zürich: Συνέδριο для всех".into(),
        starts_on: "2026-05-30".into(),
        ends_on: "2026-06-02".into(),
        place: "Zürich, Switzerland".into(),
        organiser: "rustfest.ch".into(),
        attendee: "Łukasz Ōtani-Żółć Ελένη Дмитрий".into(),
        order: "BX-7K3M9-QTD4X".into(),
        price_cents: 12_550,
        currency: "CHF".into(),
        ordered_at_ms: 1_800_000_000_000,
        codes: vec!["1234567890:sig-one".into(), "1234567891:sig-two".into()],
    }
}

#[test]
fn the_same_order_prints_the_same_bytes_and_stays_small() {
    let one = pdf::draw(&sheet()).unwrap();
    assert_eq!(one, pdf::draw(&sheet()).unwrap());
    assert!(one.starts_with(b"%PDF-"));
    assert!(one.len() < 60_000, "{} bytes", one.len());
    if let Some(path) = std::env::var_os("BOXOFFICE_KEEP_PDF") {
        std::fs::write(path, &one).unwrap();
    }
}

#[test]
fn names_in_latin_greek_and_cyrillic_can_be_read_back_from_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ticket.pdf");
    std::fs::write(&path, pdf::draw(&sheet()).unwrap()).unwrap();
    let Ok(output) = Command::new("pdftotext").arg("-layout").arg(&path).arg("-").output() else {
        println!("skip: no pdftotext (poppler-utils) to read the ticket with");
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    for wanted in
        ["BX-7K3M9-QTD4X", "Łukasz", "Ελένη", "Дмитрий", "Zürich, Switzerland", "Συνέδριο"]
    {
        assert!(text.contains(wanted), "no {wanted} in {text}");
    }
    assert!(text.contains("30 May – 2 June 2026") && text.contains("Ticket 2 of 2"), "{text}");
    assert!(text.contains("125.50 CHF"), "{text}");
}
