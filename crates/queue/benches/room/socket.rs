//! A bare socket that speaks just enough AMQP: what the broker gives at most, whoever its client is.

use std::{
    io::{BufReader, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use lapin::uri::AMQPUri;
use throng_queue::TaskId;

use super::{
    bare::{BODY, PREFETCH, WORD},
    meter::Meter,
};

/// One connection with one channel, and a durable queue.
pub(crate) struct Socket {
    stream: TcpStream,
    input: BufReader<TcpStream>,
    queue: String,
    /// A publication of a message like ours, made once.
    publication: Vec<u8>,
}

/// What the broker says, as far as it counts here.
enum Said {
    /// This tag, and with `true` all before it.
    Confirmed(u64, bool),
    Delivered(u64),
    Answer(u16, u16),
}

impl Socket {
    pub(crate) fn open(url: &str, queue: String) -> anyhow::Result<Self> {
        let uri: AMQPUri = url.trim_end_matches('/').parse().map_err(anyhow::Error::msg)?;
        let authority = uri.authority;
        let stream = TcpStream::connect((authority.host.as_str(), authority.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let input = BufReader::with_capacity(1 << 16, stream.try_clone()?);
        let publication = publication(&queue);
        let mut socket = Self { stream, input, queue, publication };
        socket.stream.write_all(b"AMQP\0\0\x09\x01")?;
        socket.wait_for(10, 10)?;
        let user = authority.userinfo;
        let login = format!("\0{}\0{}", user.username, user.password);
        let start = [&[0; 4], &short("PLAIN")[..], &long(&login), &short("en_US")].concat();
        socket.say(0, 10, 11, &start)?;
        socket.wait_for(10, 30)?;
        let no_heartbeats = [&2047_u16.to_be_bytes()[..], &131_072_u32.to_be_bytes(), &[0; 2]];
        socket.say(0, 10, 31, &no_heartbeats.concat())?;
        socket.ask(0, 10, 40, &[&short("/")[..], &[0, 0]].concat())?;
        socket.ask(1, 20, 10, &[0])?;
        socket.ask(1, 85, 10, &[0])?;
        let queue = short(&socket.queue);
        socket.ask(1, 50, 10, &[&[0, 0], &queue[..], &[DURABLE], &[0; 4]].concat())?;
        Ok(socket)
    }

    /// Messages a second that are confirmed, `at_once` of them on their way, and what each costs.
    pub(crate) fn publish(&mut self, messages: usize, at_once: usize) -> anyhow::Result<[f64; 2]> {
        let meter = Meter::start();
        // All up to `last` are confirmed, and those in `alone`.
        let (mut sent, mut last, mut alone) = (0, 0, Vec::new());
        while last as usize + alone.len() < messages {
            let room = (last as usize + alone.len() + at_once).min(messages) - sent;
            self.stream.write_all(&self.publication.repeat(room))?;
            sent += room;
            // What has come by then is answered by as many in one go.
            loop {
                match self.hear()? {
                    Said::Confirmed(tag, true) => {
                        last = tag;
                        alone.retain(|alone| *alone > last);
                    }
                    Said::Confirmed(tag, false) => alone.push(tag),
                    Said::Delivered(_) | Said::Answer(..) => {}
                }
                if self.input.buffer().is_empty() {
                    break;
                }
            }
        }
        Ok(meter.stop(messages))
    }

    /// Messages a second that are taken and acknowledged, many by one word, and what each costs.
    pub(crate) fn take(&mut self, messages: usize) -> anyhow::Result<[f64; 2]> {
        let meter = Meter::start();
        self.consume()?;
        let mut taken = 0;
        while taken < messages {
            let Said::Delivered(tag) = self.hear()? else { continue };
            taken += 1;
            if taken % WORD == 0 || taken == messages {
                self.acknowledge(tag)?;
            }
        }
        Ok(meter.stop(messages))
    }

    /// From the publication to the delivery, in milliseconds and in order, nothing else being under
    /// way.
    pub(crate) fn deliver(&mut self, messages: usize) -> anyhow::Result<Vec<f64>> {
        self.consume()?;
        let mut took = Vec::new();
        for _ in 0..messages {
            std::thread::sleep(Duration::from_millis(30));
            let begun = Instant::now();
            self.stream.write_all(&self.publication)?;
            let tag = loop {
                if let Said::Delivered(tag) = self.hear()? {
                    break tag;
                }
            };
            took.push(begun.elapsed().as_secs_f64() * 1000.0);
            self.acknowledge(tag)?;
        }
        took.sort_by(f64::total_cmp);
        Ok(took)
    }

    pub(crate) fn close(mut self) -> anyhow::Result<()> {
        let queue = short(&self.queue);
        self.ask(1, 50, 40, &[&[0, 0], &queue[..], &[0]].concat())
    }

    fn consume(&mut self) -> anyhow::Result<()> {
        let bound = [&[0; 4], &PREFETCH.to_be_bytes()[..], &[0]].concat();
        self.ask(1, 60, 10, &bound)?;
        let queue = short(&self.queue);
        // The first deliveries may overtake the answer to nobody's harm: it comes before them.
        self.ask(1, 60, 20, &[&[0, 0], &queue[..], &[0, 0], &[0; 4]].concat())
    }

    fn acknowledge(&mut self, tag: u64) -> anyhow::Result<()> {
        self.say(1, 60, 80, &[&tag.to_be_bytes()[..], &[1]].concat())
    }

    fn say(&mut self, channel: u16, class: u16, method: u16, rest: &[u8]) -> anyhow::Result<()> {
        let said = [&class.to_be_bytes(), &method.to_be_bytes(), rest].concat();
        Ok(self.stream.write_all(&frame(METHOD, channel, &said))?)
    }

    /// Says something, and waits for the answer that belongs to it.
    fn ask(&mut self, channel: u16, class: u16, method: u16, rest: &[u8]) -> anyhow::Result<()> {
        self.say(channel, class, method, rest)?;
        self.wait_for(class, method + 1)
    }

    fn wait_for(&mut self, class: u16, method: u16) -> anyhow::Result<()> {
        loop {
            match self.hear()? {
                Said::Answer(its, other) if (its, other) == (class, method) => return Ok(()),
                Said::Answer(its @ (10 | 20), other @ (40 | 50)) => {
                    anyhow::bail!("the broker refuses: {its}.{other}")
                }
                _ => {}
            }
        }
    }

    /// The next thing that the broker says. A message is heard when its head has come; its body,
    /// which is small and comes with it, is passed over.
    fn hear(&mut self) -> anyhow::Result<Said> {
        loop {
            let mut head = [0; 7];
            self.input.read_exact(&mut head).context("the broker says nothing")?;
            let mut size = [0; 4];
            size.copy_from_slice(&head[3..]);
            let mut said = vec![0; u32::from_be_bytes(size) as usize + 1];
            self.input.read_exact(&mut said)?;
            if head[0] != METHOD {
                continue;
            }
            let number = |at: usize| u16::from_be_bytes([said[at], said[at + 1]]);
            let tag = |at: usize| {
                let mut tag = [0; 8];
                tag.copy_from_slice(&said[at..at + 8]);
                u64::from_be_bytes(tag)
            };
            return Ok(match (number(0), number(2)) {
                (60, 60) => Said::Delivered(tag(5 + usize::from(said[4]))),
                (60, 80) => Said::Confirmed(tag(4), said[12] & 1 == 1),
                (class, method) => Said::Answer(class, method),
            });
        }
    }
}

/// The three frames of a message like ours.
fn publication(queue: &str) -> Vec<u8> {
    let id = TaskId::random();
    let mut headers = Vec::new();
    for (name, value) in
        [("lang", "py"), ("task", "noop"), ("id", id.as_str()), ("root_id", id.as_str())]
    {
        headers.extend([&short(name)[..], b"S", &long(value)].concat());
    }
    headers.extend([&short("retries")[..], b"I\0\0\0\0"].concat());
    headers.extend([&short("ignore_result")[..], b"t\x01"].concat());
    let headers = [&(headers.len() as u32).to_be_bytes()[..], &headers].concat();
    let method = [&[0, 60, 0, 40, 0, 0, 0], &short(queue)[..], &[MANDATORY]].concat();
    let properties = [
        &[0, 60, 0, 0],
        &(BODY.len() as u64).to_be_bytes()[..],
        &[0xfc, 0], // the first six properties
        &short("application/json"),
        &short("utf-8"),
        &headers,
        &[2, 0], // persistent, priority 0
        &short(id.as_str()),
    ];
    [frame(METHOD, 1, &method), frame(2, 1, &properties.concat()), frame(3, 1, BODY)].concat()
}

fn frame(kind: u8, channel: u16, said: &[u8]) -> Vec<u8> {
    let size = (said.len() as u32).to_be_bytes();
    [&[kind], &channel.to_be_bytes()[..], &size, said, &[0xce]].concat()
}

fn short(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

fn long(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

const METHOD: u8 = 1;
const DURABLE: u8 = 2;
const MANDATORY: u8 = 1;
const PATIENCE: Duration = Duration::from_secs(20);
