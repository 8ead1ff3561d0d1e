//! The seeds of mutations: the rows of the bad-input tables, and similar valid input.

/// Rows of `tests/badhttp`, which fails when one of them is not here: section, name, bytes.
const TABLES: &str = include_str!("../seeds.txt");

/// Streams of requests.
///
/// # Panics
/// When a line of the file is none.
#[must_use]
pub fn heads() -> Vec<Vec<u8>> {
    let tables = TABLES.lines().map(|line| {
        let mut parts = line.splitn(3, ' ');
        unescaped(parts.nth(2).expect("section, name and bytes"))
    });
    tables
        .chain(HEADS.iter().map(|s| s.as_bytes().to_vec()))
        .collect()
}

/// Chunked bodies, with what may follow them.
///
/// # Panics
/// As [`heads`].
#[must_use]
pub fn chunks() -> Vec<Vec<u8>> {
    let tables = heads().into_iter().filter_map(|bytes| {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        head.contains("transfer-encoding: chunked\r\n")
            .then(|| bytes[end..].to_vec())
    });
    tables
        .chain(CHUNKS.iter().map(|s| s.as_bytes().to_vec()))
        .collect()
}

/// Undoes `escape_ascii`.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (_, false) => byte,
            _ => match rest.next().expect("an escaped byte") {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next(), rest.next()].map(|d| d.expect("two digits"));
                    let digits = String::from_utf8_lossy(&digits).into_owned();
                    u8::from_str_radix(&digits, 16).expect("a number")
                }
                itself => itself,
            },
        });
    }
    bytes
}

pub(crate) const HEADS: &[&str] = &[
    "GET /a/../b?x=1 HTTP/1.1\r\nHost: h:80\r\nAccept: */*\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5, 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "GET http://h/x?y HTTP/1.1\r\nHost: h\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    "\r\nHEAD /x HTTP/1.1\r\nHost: [::1]:8\r\nX:\ta \r\n\r\nDELETE /y HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

const CHUNKS: &[&str] = &[
    "5\r\nhello\r\n0\r\n\r\n",
    "5;a;b=c;d=\"e;\\\"f\"\r\nhello\r\n0;last\r\nX: y\r\n\r\n",
    "5 ; a = b\r\nhello\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
    "00a\r\n0123456789\r\nB\r\n01234567890\r\n000\r\n\r\n",
    "5;\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "6\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "0\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
];

/// Pieces that matter in HTTP.
pub const WORDS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "=",
    "\"",
    "\\",
    "\0",
    "\x7f",
    "\u{e9}",
    "0",
    "5",
    "-",
    "+",
    "0x",
    "_",
    "ffffffffffffffff",
    "chunked",
    "identity",
    "gzip, ",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Host: h\r\n",
    "Connection: close\r\n",
    "0\r\n\r\n",
    "GET /3 HTTP/1.1\r\nHost: h\r\n\r\n",
    "HTTP/1.1",
    "HTTP/1.0",
    "?",
    "#",
    "//",
    "..",
    "%00",
    "{",
    "|",
];
