//! Mail: one file a letter, or a conversation with a server.

use boxoffice::mail::{Attachment, Letter, Post};
use throng::url::EngineUrl;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

fn letter() -> Letter {
    Letter {
        id: "tickets-bx-00000-00000".into(),
        name: "Łukasz \"Quote\" <x>".into(),
        email: "lukasz@example.com".into(),
        subject: "Your ticket for Café\r\nBcc: everyone@example.com".into(),
        text: "Hello Łukasz\n".into(),
        attachments: vec![Attachment {
            name: "BX.pdf".into(),
            media_type: "application/pdf",
            bytes: b"%PDF-1.7 not really".to_vec(),
        }],
    }
}

fn post(url: &str) -> Result<Post, boxoffice::mail::Error> {
    Post::open(&EngineUrl::parse(url).unwrap(), "Boxoffice <tickets@boxoffice.example>")
}

#[tokio::test]
async fn a_letter_is_written_once_however_often_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mail = folder.path().join("mail");
    let post = post(&format!("dir:{}", mail.display())).unwrap();
    post.send(&letter()).await.unwrap();
    let path = mail.join("tickets-bx-00000-00000.eml");
    let first = std::fs::read_to_string(&path).unwrap();
    post.send(&Letter { text: "Changed".into(), ..letter() }).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
    assert_eq!(std::fs::read_dir(&mail).unwrap().count(), 1);
    assert!(first.contains("Message-ID: <tickets-bx-00000-00000@boxoffice.example>"), "{first}");
    assert!(first.contains("To: ") && first.contains("lukasz@example.com"), "{first}");
    assert!(first.contains("filename=\"BX.pdf\""), "{first}");
    // A name from a visitor stays inside its header.
    assert!(!first.contains("\nBcc:"), "{first}");
}

#[tokio::test]
async fn a_letter_whose_writer_was_killed_is_written_by_the_next_and_leaves_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let mail = folder.path();
    let post = post(&format!("dir:{}", mail.display())).unwrap();
    let draft = mail.join("tickets-bx-00000-00000.draft");
    std::fs::write(&draft, "half of a much longer letter".repeat(1_000)).unwrap();
    let writing = std::fs::File::open(&draft).unwrap();
    writing.lock().unwrap();
    assert!(post.send(&letter()).await.is_err(), "somebody is writing it");
    drop(writing);
    post.send(&letter()).await.unwrap();
    let files: Vec<_> = std::fs::read_dir(mail).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files, [mail.join("tickets-bx-00000-00000.eml")]);
    assert!(!std::fs::read_to_string(&files[0]).unwrap().contains("half of a much longer"));
}

#[tokio::test]
async fn a_wrong_url_or_address_is_told_by_name() {
    for (url, told) in [
        ("ftp://example.com", "ftp"),
        ("smtp://a.example,b.example", "one server"),
        ("smtp://a.example?tls=maybe", "tls"),
        ("dir:mail?size=3", "size"),
    ] {
        let error = post(url).unwrap_err();
        let chain = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(chain.contains(told), "{chain}");
    }
    let url = EngineUrl::parse("dir:mail").unwrap();
    let error = Post::open(&url, "nobody").unwrap_err().to_string();
    assert!(error.contains("`nobody`"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let post = post(&format!("dir:{}", folder.path().display())).unwrap();
    let wrong = post.send(&Letter { email: "no address".into(), ..letter() }).await.unwrap_err();
    assert!(matches!(wrong, boxoffice::mail::Error::Letter { .. }), "{wrong}");
}

#[tokio::test]
async fn a_server_takes_the_letter() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 test\r\n").await.unwrap();
        let (mut heard, mut is_letter) = (Vec::new(), false);
        while let Some(line) = lines.next_line().await.unwrap() {
            let answer: &[u8] = match &*line {
                "." => b"250 taken\r\n",
                _ if is_letter => b"",
                "DATA" => b"354 go on\r\n",
                "QUIT" => b"221 bye\r\n",
                _ => b"250 fine\r\n",
            };
            is_letter = (is_letter || line == "DATA") && line != ".";
            heard.push(line);
            write.write_all(answer).await.unwrap();
            if heard.iter().any(|line| line == ".") {
                break;
            }
        }
        heard
    });
    let post = post(&format!("smtp://127.0.0.1:{port}?tls=none")).unwrap();
    post.send(&letter()).await.unwrap();
    let heard = server.await.unwrap();
    assert!(heard.iter().any(|line| line == "RCPT TO:<lukasz@example.com>"), "{heard:?}");
    let id = "Message-ID: <tickets-bx-00000-00000@boxoffice.example>";
    assert!(heard.iter().any(|line| line == id), "{heard:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_to_try_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let post = post(&format!("smtp://127.0.0.1:{port}?tls=none")).unwrap();
    let error = post.send(&letter()).await.unwrap_err();
    assert!(matches!(error, boxoffice::mail::Error::Smtp(_)), "{error}");
}
