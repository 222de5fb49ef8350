//! Tickets: the printed page.

use std::process::Command;

use boxoffice::{
    models::Event,
    purchase::Purchase,
    tickets::{
        self, Admission,
        pdf::{self, Sheet},
    },
};

use crate::house::{House, want};

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
        println!("skip: no \"pdftotext\" (poppler-utils) to read the ticket with");
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

#[tokio::test]
async fn a_ticket_opens_its_event_once_and_a_made_up_one_none() {
    let house = House::open().await;
    let (event, other) = (house.sale(5, "").await, house.sale(5, "").await);
    let ana = house.user("ana").await;
    let hold = house.desk().hold(want(&event, &ana, 2)).await.unwrap();
    let purchase = Purchase {
        hold_id: hold.id,
        user_id: ana.id,
        attendee: "Ana",
        email: "ana@example.com",
        card: "",
    };
    let order = house.desk().buy(purchase).await.unwrap();
    let sheet = tickets::sheet(&house.cx.db, house.cx.keys(), &order).await.unwrap();
    let codes = sheet.unwrap().0.codes;
    assert_eq!(codes.len(), 2);
    let admit = async |event: &Event, code: &str| {
        let now_ms = house.cx.clock.now_ms();
        let keys = house.cx.keys();
        tickets::admit(&house.cx.db, keys, event.id, code, now_ms).await.unwrap()
    };
    assert!(matches!(admit(&other, &codes[0]).await, Admission::OtherEvent(_)));
    assert!(matches!(admit(&event, &format!(" {}\n", codes[0])).await, Admission::Welcome(_)));
    let again = admit(&event, &codes[0]).await;
    let at_ms = house.cx.clock.now_ms();
    assert_eq!(again, Admission::UsedBefore { at_ms, order: Box::new(order) });
    assert!(matches!(admit(&event, &codes[1]).await, Admission::Welcome(_)));
    let (id, signature) = codes[0].split_once(':').unwrap();
    for forged in
        ["", "1", ":", "x:y", &format!("{id}1:{signature}"), &format!("{id}:x{signature}")]
    {
        assert_eq!(admit(&event, forged).await, Admission::Unknown, "{forged}");
    }
    house.site.run_tasks().await;
    house.site.finish().await;
}
