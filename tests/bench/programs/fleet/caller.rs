//! HTTP as little of it as the simulated fleet needs, over connections that are kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::{Outcome, TOKEN};

/// A connection that is kept, and opened again when it was closed.
pub(crate) struct Caller {
    at: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Caller {
    pub(crate) fn new(at: &str) -> Self {
        Self {
            at: at.trim_start_matches("http://").to_owned(),
            stream: None,
        }
    }

    pub(crate) fn call(
        &mut self,
        method: &str,
        path: &str,
        content: &[u8],
    ) -> Outcome<(u16, Vec<u8>)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.at)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                BufReader::new(stream)
            }
        };
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            content.len()
        )
        .into_bytes();
        request.extend_from_slice(content);
        stream.get_mut().write_all(&request)?;
        let (status, length, closes) = head(&mut stream)?;
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        if !closes {
            self.stream = Some(stream);
        }
        Ok((status, answer))
    }
}

/// Status (or 0 for a request), length of the content, and whether the connection ends.
pub(crate) fn head(stream: &mut BufReader<TcpStream>) -> Outcome<(u16, usize, bool)> {
    let (mut status, mut length, mut closes) = (0, 0, false);
    let mut line = String::new();
    for n in 0.. {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err("the connection was closed".into());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if n == 0 {
            status = text
                .split(' ')
                .nth(1)
                .and_then(|s| s.parse().ok())
                .unwrap_or(0);
        }
        if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        closes |= text == "connection: close";
        if text.is_empty() {
            break;
        }
    }
    Ok((status, length, closes))
}
