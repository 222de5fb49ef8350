//! `boxoffice import`: what comes in, and what is told of what does not.

use std::{path::Path, process::Stdio};

use boxoffice::models::{events, facets, organisers, search, seats};
use sea_orm::{EntityTrait, PaginatorTrait};
use tokio::io::AsyncWriteExt;

use crate::house::{boxoffice, database};

struct Told {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn import(folder: &Path, arguments: &[&str], input: &[u8]) -> Told {
    let mut command = boxoffice(folder);
    command.arg("import").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A file that is not standard input is not read from here.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Told { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn json(told: &Told) -> serde_json::Value {
    serde_json::from_str(told.out.trim()).unwrap_or_else(|_| panic!("{} {}", told.out, told.err))
}

/// Six thousand lines like those of a real list: the same conference each year, on several topics.
fn list(lines: u32) -> String {
    let line = |number: u32| {
        let (year, series) = (2013 + number % 15, number / 30);
        let topic = ["ruby", "javascript"][number as usize / 15 % 2];
        format!(
            "{{\"name\":\"Conf {series}\",\"url\":\"https://www.conf{series}.example\",\"startDate\":\"{year}-02-07\",\
             \"endDate\":\"{year}-02-09\",\"city\":\"Cape Town\",\"country\":\"South Africa\",\"topic\":\"{topic}\"}}\n"
        )
    };
    (0..lines).map(line).collect()
}

#[tokio::test]
async fn a_list_comes_in_once_however_often_it_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.jsonl");
    std::fs::write(&path, list(1_830)).unwrap();
    let path = path.to_str().unwrap();
    let first = import(folder.path(), &[path, "--json"], b"").await;
    assert_eq!((first.code, first.err.as_str()), (Some(0), ""), "{}", first.out);
    let told = json(&first);
    assert_eq!(
        (&told["read"], &told["imported"], &told["already"]),
        (&1_830.into(), &1_830.into(), &0.into())
    );
    let second = json(&import(folder.path(), &[path, "--json"], b"").await);
    assert_eq!((&second["imported"], &second["already"]), (&0.into(), &1_830.into()));
    let longer = json(&import(folder.path(), &["-", "--json"], list(1_900).as_bytes()).await);
    assert_eq!((&longer["imported"], &longer["already"]), (&70.into(), &1_830.into()));
    let db = database(folder.path()).await;
    assert_eq!(events::Entity::find().count(&db).await.unwrap(), 1_900);
    assert_eq!(organisers::Entity::find().count(&db).await.unwrap(), 64);
    assert_eq!(seats::Entity::find().count(&db).await.unwrap(), 1_900);
    let found = search::find(&db, "conf 63 ruby", "2020-01-01", None, 100).await.unwrap();
    assert_eq!(found.items.len(), 10);
    let topics = facets::list(&db, facets::Kind::Topic, 10).await.unwrap();
    assert_eq!(topics.iter().map(|topic| &*topic.name).collect::<Vec<_>>(), ["javascript", "ruby"]);
    db.close().await;
}

#[tokio::test]
async fn bad_lines_are_told_with_their_numbers_and_the_rest_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut input = b"\xef\xbb\xbf{\"name\": \"One\", \"startDate\": \"2026-01-01\"}\r\n".to_vec();
    input.extend_from_slice(b"{\"name\": \"Two\"}\n\n   \nnonsense\n");
    input.extend_from_slice(b"{\"name\": \"\xff\xfe\", \"startDate\": \"2026-01-01\"}\n");
    input.extend_from_slice(b"{\"name\": \"Three\", \"startDate\": \"2026-13-01\"}\n");
    input.extend_from_slice(format!("{{\"name\": \"{}\"}}\n", "x".repeat(3 << 20)).as_bytes());
    input.extend_from_slice(b"[]\n{\"name\": \"Nul\\u0000\", \"startDate\": \"2026-01-01\"}\n");
    input.extend_from_slice(b"{\"name\": \"Last\", \"startDate\": \"2026-01-02\"}");
    let told = import(folder.path(), &["-"], &input).await;
    assert_eq!(told.code, Some(1), "{}", told.err);
    for line in [
        "line 2: `startDate` is missing",
        "line 5: is not JSON",
        "line 6: is not UTF-8",
        "line 7: `startDate` is `2026-13-01`, not a day such as 2026-05-01",
        "line 8: is longer than 1 MiB",
        "line 9: is not a JSON object",
        "line 10: `name` holds a null character",
    ] {
        assert!(told.err.contains(line), "no `{line}` in {}", told.err);
    }
    assert!(told.out.starts_with("2 events imported, 0 already here, 7 unusable"), "{}", told.out);
    assert!(told.err.contains("7 lines could not be used"), "{}", told.err);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    for (path, reason) in [("nothing.jsonl", "No such file"), (".", "it is a folder")] {
        let told = import(folder.path(), &[path], b"").await;
        assert_eq!(told.code, Some(1), "{}", told.err);
        assert!(told.err.contains(path) && told.err.contains(reason), "{}", told.err);
        assert_eq!(told.err.lines().count(), 1, "{}", told.err);
    }
}

#[tokio::test]
async fn a_file_of_another_kind_does_not_fill_the_screen() {
    let folder = tempfile::tempdir().unwrap();
    let told = import(folder.path(), &["-"], "what is this\n".repeat(5_000).as_bytes()).await;
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains("and 4900 more lines"), "{}", told.err);
    assert!(told.err.lines().count() < 110);
}
