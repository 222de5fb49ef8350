//! HTTP as somebody speaks it who may leave at any byte.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use super::dice::Dice;

/// How far a visitor stays with a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stay {
    /// Until the answer is there.
    Whole,
    /// Until so many bytes are sent.
    Sent(usize),
    /// This long after all was sent.
    Waited(Duration),
    /// Until so many bytes of the answer are read.
    Read(usize),
}

impl Stay {
    /// Half of the time until the end of a request of `length` bytes, whose answer takes about
    /// `usual`.
    pub(super) fn any(dice: &mut Dice, length: usize, usual: Duration) -> Self {
        match dice.below(20) {
            0..=9 => Self::Whole,
            10 => Self::Sent(dice.below(length as u64 + 1) as usize),
            11..=17 => Self::Waited(usual * dice.below(120) as u32 / 100),
            _ => Self::Read(dice.below(600) as usize),
        }
    }
}

/// What came for those who stayed.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &'_ str| line.split_once(": ").is_some_and(|(of, _)| of == name);
        self.head.lines().find(|line| named(line)).map(|line| &line[name.len() + 2..])
    }

    /// The value that the answer gives a cookie.
    pub(super) fn cookie(&self, name: &str) -> Option<String> {
        let set = self.head.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
        let pairs = set.filter_map(|line| line.split(';').next()?.split_once('='));
        pairs.filter(|(of, _)| *of == name).map(|(_, value)| value.to_owned()).next_back()
    }
}

/// Sends a request and stays as long as `stay` says; the answer if that was long enough.
///
/// # Panics
/// When the site does not answer at all.
pub(super) fn ask(address: &str, request: &[u8], stay: Stay) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).expect("the site listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let sent = match stay {
        Stay::Sent(bytes) => &request[..bytes.min(request.len())],
        _ => request,
    };
    // A site that refuses a request may close before it has read all of it.
    let _ = stream.write_all(sent);
    match stay {
        Stay::Sent(_) => return None,
        Stay::Waited(time) => {
            std::thread::sleep(time);
            return None;
        }
        Stay::Whole | Stay::Read(_) => {}
    }
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let room = match stay {
            Stay::Read(bytes) if text.len() >= bytes => return None,
            Stay::Read(bytes) => chunk.len().min(bytes - text.len()),
            _ => chunk.len(),
        };
        match stream.read(&mut chunk[..room]) {
            Ok(0) => break,
            Ok(read) => text.extend_from_slice(&chunk[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let request = String::from_utf8_lossy(request);
                panic!("no answer in {PATIENCE:?} to {request}");
            }
            Err(_) => break,
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    read(&text)
}

/// An answer, if it is there as a whole.
fn read(text: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(text);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
    let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    (answer.body.len() >= length).then_some(answer)
}

/// Far more than the site takes for anything; after that it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
