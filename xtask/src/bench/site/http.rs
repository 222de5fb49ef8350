//! A client that costs little: HTTP/1.1 over one kept connection, with cookies, no TLS.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// One visitor: a connection and its cookies.
pub(in crate::bench) struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
    cookies: BTreeMap<String, String>,
}

/// What came back.
pub(in crate::bench) struct Answer {
    pub(in crate::bench) status: u16,
    /// Where a redirect leads.
    pub(in crate::bench) location: Option<String>,
    pub(in crate::bench) body: Vec<u8>,
}

impl Client {
    pub(in crate::bench) fn new(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { address, connection: None, cookies: BTreeMap::new() }
    }

    pub(in crate::bench) fn get(&mut self, path: &str) -> Result<Answer> {
        self.send("GET", path, None).with_context(|| format!("GET {path}"))
    }

    /// Posts a form.
    pub(in crate::bench) fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Answer> {
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        self.send("POST", path, Some(&fields.join("&"))).with_context(|| format!("POST {path}"))
    }

    /// The value of a cookie.
    pub(in crate::bench) fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    fn send(&mut self, method: &str, path: &str, form: Option<&str>) -> Result<Answer> {
        let port = self.address.port();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
        if !self.cookies.is_empty() {
            let cookies: Vec<String> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            write!(request, "Cookie: {}\r\n", cookies.join("; "))?;
        }
        if let Some(form) = form {
            let length = form.len();
            write!(request, "Origin: http://127.0.0.1:{port}\r\nContent-Length: {length}\r\n")?;
            request.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
        }
        request.push_str("\r\n");
        request.push_str(form.unwrap_or(""));

        // A server may close a kept connection at any time; one fresh attempt is fair.
        let is_fresh = self.connection.is_none();
        match self.exchange(&request) {
            Err(_) if !is_fresh => {
                self.connection = None;
                self.exchange(&request)
            }
            answer => answer,
        }
    }

    fn exchange(&mut self, request: &str) -> Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                BufReader::with_capacity(64 * 1024, stream)
            }
        };
        connection.get_mut().write_all(request.as_bytes())?;
        let (answer, is_kept) = self.read(&mut connection)?;
        self.connection = is_kept.then_some(connection);
        Ok(answer)
    }

    fn read(&mut self, connection: &mut BufReader<TcpStream>) -> Result<(Answer, bool)> {
        let first = line(connection)?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("`{first}` is no status line"))?;
        let mut answer = Answer { status, location: None, body: Vec::new() };
        let (mut length, mut is_chunked, mut is_kept) = (None, false, true);
        loop {
            let header = line(connection)?;
            let Some((name, value)) = header.split_once(':') else { break };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = Some(value.parse::<usize>()?),
                "transfer-encoding" => is_chunked = value.eq_ignore_ascii_case("chunked"),
                "connection" => is_kept = !value.eq_ignore_ascii_case("close"),
                "location" => answer.location = Some(value.to_owned()),
                "set-cookie" => self.keep(value),
                _ => {}
            }
        }
        if is_chunked {
            loop {
                let size = usize::from_str_radix(&line(connection)?, 16)?;
                let start = answer.body.len();
                answer.body.resize(start + size, 0);
                connection.read_exact(&mut answer.body[start..])?;
                line(connection)?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = length {
            answer.body.resize(length, 0);
            connection.read_exact(&mut answer.body)?;
        } else if is_kept {
            bail!("the answer has no length");
        } else {
            connection.read_to_end(&mut answer.body)?;
        }
        Ok((answer, is_kept))
    }

    fn keep(&mut self, cookie: &str) {
        let pair = cookie.split(';').next().unwrap_or("");
        let Some((name, value)) = pair.split_once('=') else { return };
        if value.is_empty() || value == "\"\"" {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

impl Answer {
    /// The page, or an error with its beginning when the status is not `wanted`.
    pub(in crate::bench) fn expect(self, wanted: u16) -> Result<Self> {
        if self.status == wanted {
            return Ok(self);
        }
        let text = self.text();
        let start: String = text.chars().take(300).collect();
        bail!("status {} where {wanted} was expected: {start}", self.status)
    }

    pub(in crate::bench) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn line(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        bail!("the connection was closed");
    }
    Ok(line.trim_end().to_owned())
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

const PATIENCE: Duration = Duration::from_secs(30);
