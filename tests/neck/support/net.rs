//! HTTP, server-sent events and signalling sockets, written anew on plain sockets: the product's
//! own client would share the product's own mistakes.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::until;

/// Longest silence of a peer: creating a session may take `sessions.start_timeout`.
const SILENCE: Duration = Duration::from_secs(80);

/// A server that answers everything with this; its thread ends with the test program.
pub fn answers_always(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = client.read(&mut request);
            let _ = client.write_all(answer.as_bytes());
        }
    });
    at
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }

    /// The slug of an error.
    pub fn reason(&self) -> String {
        self.json()["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// Sends one request and reads the answer to its end.
pub fn call(
    to: SocketAddr,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: Option<&[u8]>,
) -> io::Result<Answer> {
    let mut socket = open(to, method, target, fields, body)?;
    let mut bytes = Vec::new();
    // Also what a peer that resets has sent until then.
    let read = socket.read_to_end(&mut bytes);
    parse(&bytes).ok_or_else(|| {
        read.err()
            .unwrap_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no whole answer"))
    })
}

fn open(
    to: SocketAddr,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: Option<&[u8]>,
) -> io::Result<TcpStream> {
    send(TcpStream::connect(to)?, to, method, target, fields, body)
}

/// A connection that comes from this address.
fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let domain = socket2::Domain::for_address(to);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

fn send(
    mut socket: TcpStream,
    to: SocketAddr,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: Option<&[u8]>,
) -> io::Result<TcpStream> {
    socket.set_read_timeout(Some(SILENCE))?;
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {to}\r\n");
    if !fields
        .iter()
        .any(|(n, _)| n.eq_ignore_ascii_case("connection"))
    {
        head.push_str("Connection: close\r\n");
    }
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut request = head.into_bytes();
    request.extend_from_slice(body.unwrap_or_default());
    match socket.write_all(&request) {
        // It may have answered before it closed: read on.
        Err(error)
            if error.kind() != io::ErrorKind::BrokenPipe
                && error.kind() != io::ErrorKind::ConnectionReset =>
        {
            Err(error)
        }
        _ => Ok(socket),
    }
}

/// Status, fields, and the head's length.
type Head = (u16, Vec<(String, String)>, usize);

fn head(bytes: &[u8]) -> Option<Head> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let fields = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
        .collect();
    Some((status, fields, end + 4))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let (status, fields, start) = head(bytes)?;
    let mut answer = Answer {
        status,
        fields,
        body: bytes[start..].to_vec(),
    };
    if answer.field("transfer-encoding").is_some() {
        answer.body = unchunk(&answer.body);
    }
    Some(answer)
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let size = String::from_utf8_lossy(&bytes[..end]);
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = bytes.get(end + 2..end + 2 + size) else {
            break;
        };
        if size == 0 {
            break;
        }
        whole.extend_from_slice(chunk);
        bytes = bytes.get(end + 4 + size..).unwrap_or_default();
    }
    whole
}

/// A stream of server-sent events that is read in the background; closed when dropped.
pub struct Feed {
    socket: TcpStream,
    read: Arc<Mutex<(String, bool)>>,
}

impl Feed {
    /// Listens at `target`.
    pub fn open(to: SocketAddr, target: &str, fields: &[(&str, &str)]) -> Self {
        Self::over(open(to, "GET", target, fields, None).unwrap())
    }

    /// Listens at `target` as somebody at this address.
    pub fn open_from(from: IpAddr, to: SocketAddr, target: &str) -> Self {
        let socket = connect_from(from, to).unwrap();
        Self::over(send(socket, to, "GET", target, &[], None).unwrap())
    }

    fn over(socket: TcpStream) -> Self {
        let read = Arc::new(Mutex::new((String::new(), false)));
        let (mut reader, shared) = (socket.try_clone().unwrap(), Arc::clone(&read));
        reader.set_read_timeout(None).unwrap();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut piece) {
                shared
                    .lock()
                    .unwrap()
                    .0
                    .push_str(&String::from_utf8_lossy(&piece[..n]));
            }
            shared.lock().unwrap().1 = true;
        });
        let feed = Self { socket, read };
        until("the event stream to begin", || {
            feed.text().contains("\r\n\r\n")
        });
        assert!(feed.text().starts_with("HTTP/1.1 200"), "{}", feed.text());
        feed
    }

    /// All that came so far, head and chunk sizes included.
    pub fn text(&self) -> String {
        self.read.lock().unwrap().0.clone()
    }

    /// How many events of this name came.
    pub fn count(&self, name: &str) -> usize {
        self.text()
            .lines()
            .filter(|l| *l == format!("event: {name}"))
            .count()
    }

    /// How many events of this name came about this session.
    pub fn tells(&self, name: &str, session: &str) -> usize {
        let text = self.text();
        let events = text
            .split("event: ")
            .filter(|e| e.lines().next() == Some(name));
        let first = events.filter_map(|e| e.split("\n\n").next().map(str::to_owned));
        first.filter(|e| e.contains(session)).count()
    }

    /// Waits for an event and gives its data.
    pub fn wait(&self, name: &str) -> Value {
        until(&format!("the event {name}"), || self.count(name) > 0);
        until("its data", || self.data(name).is_some());
        self.data(name).unwrap()
    }

    fn data(&self, name: &str) -> Option<Value> {
        let text = self.text();
        let after = text.split(&format!("event: {name}\n")).nth(1)?;
        let line = after.split('\n').next()?;
        serde_json::from_str(line.strip_prefix("data: ")?).ok()
    }

    pub fn has_ended(&self) -> bool {
        self.read.lock().unwrap().1
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// An open signalling WebSocket; closed when dropped.
pub struct Signalling(TcpStream);

impl Signalling {
    /// Opens the stream program's signalling of the session at `prefix`.
    pub fn open(to: SocketAddr, prefix: &str) -> Self {
        let fields = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let target = format!("{prefix}/api/host/stream");
        let mut socket = open(to, "GET", &target, &fields, None).unwrap();
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|n| n > 0) {
            bytes.push(byte[0]);
        }
        let status = head(&bytes).map(|(status, ..)| status);
        assert_eq!(status, Some(101), "{}", String::from_utf8_lossy(&bytes));
        Self(socket)
    }

    /// Says as the stream page does what is to be streamed: the page at this path and query.
    pub fn ask_for(&self, stream_path: &str) {
        let number = |name: &str| {
            let from = stream_path.split(&format!("{name}=")).nth(1).unwrap();
            from.split('&').next().unwrap().parse::<u32>().unwrap()
        };
        let init = json!({"Init": {"host_id": number("hostId"), "app_id": number("appId")}});
        let text = init.to_string();
        // A short text frame with a mask of zeros (RFC 6455 section 5.2).
        let length = u8::try_from(text.len()).unwrap();
        assert!(length < 126);
        let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat();
        (&self.0).write_all(&frame).unwrap();
    }

    /// Whether the other side has closed it.
    pub fn is_closed(&self) -> bool {
        let mut socket = &self.0;
        socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let mut rest = [0; 4096];
        loop {
            match socket.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => {
                    return !matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    );
                }
            }
        }
    }
}

impl Drop for Signalling {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
