//! Tables: how a row is written, run against every front, and judged.

use std::net::SocketAddr;

use crate::client::{self, Got, find, latin1};
use crate::program::noted;
use crate::rig::{Rig, rig, until};

/// The verdict on a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    /// Legal: it is answered, and so is the request after it.
    Pass,
    /// One answer with one of these statuses, then the end; nothing reached the stream program.
    Refuse(&'static [u16]),
    /// One answer with one of these statuses, then the end; the stream program may have got a part
    /// of the request, but its connection ended before that was whole.
    BreakOff(&'static [u16]),
    /// The first request is legal and answered; what follows is refused so.
    ThenRefuse(&'static [u16]),
}

/// One case. In `bytes`, `@P` stands for a path of the front, `@A` for what the front wants as
/// authorization, `@Z<n>@` for as many letters as make the bytes `n` long.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) want: Want,
    /// The client ends its side after the bytes; else a second request follows them.
    pub(crate) cut: bool,
}

pub(crate) fn row(id: &'static str, bytes: impl Into<Vec<u8>>, want: Want) -> Row {
    Row {
        id,
        bytes: bytes.into(),
        want,
        cut: false,
    }
}

/// A row after which the client says no more.
pub(crate) fn cut(id: &'static str, bytes: impl Into<Vec<u8>>, want: Want) -> Row {
    Row {
        cut: true,
        ..row(id, bytes, want)
    }
}

pub(crate) fn get(lines: &str) -> String {
    format!("GET @P HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

pub(crate) fn post(lines: &str, body: &str) -> String {
    format!("POST @P HTTP/1.1\r\nHost: h\r\n@A{lines}\r\n{body}")
}

/// Where a row is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    Api,
    Session,
}

/// Runs every row against the API and the session of both roles and tells all that went wrong.
pub(crate) fn run(section: &str, rows: &[Row]) {
    let unseeded = unseeded(section, rows);
    assert!(
        unseeded.is_empty(),
        "add to fuzz/seeds.txt:\n{}",
        unseeded.join("\n")
    );
    let rig = rig();
    let mut wrong = Vec::new();
    let (mut unseen, mut begun) = (Vec::new(), Vec::new());
    for row in rows {
        for (role, address) in rig.roles() {
            for front in [Front::Api, Front::Session] {
                let mark = format!("{section}-{}-{role}", row.id);
                let got = send(address, front, &mark, row);
                if let Err(why) = judge(row, front, &got) {
                    wrong.push(format!("{} {role} {front:?}: {why}", row.id));
                }
                match (row.want, front) {
                    (Want::Refuse(_), Front::Session) => unseen.push(format!("{mark}-")),
                    (Want::BreakOff(_), Front::Session) => {
                        let target = rig.path(&format!("mirror/{mark}-first"));
                        unseen.push(noted("whole", &target));
                        unseen.push(format!("{mark}-second"));
                        begun.push(noted("broken off", &target));
                    }
                    (Want::ThenRefuse(_), Front::Session) => unseen.push(format!("{mark}-second")),
                    _ => {}
                }
            }
        }
    }
    for ended in begun {
        until(&ended, || rig.seen().contains(&ended));
    }
    let seen = rig.seen();
    let leaked = unseen.into_iter().filter(|mark| seen.contains(mark));
    wrong.extend(leaked.map(|mark| format!("{mark} reached the stream program")));
    assert!(
        wrong.is_empty(),
        "{} of {} rows:\n{}",
        wrong.len(),
        rows.len() * 4,
        wrong.join("\n")
    );
}

/// The rows that fuzzing starts from, one a line: section, name, bytes escaped.
const SEEDS: &str = include_str!("../../fuzz/seeds.txt");
/// Longer rows are left out: their length is all that is wrong with them.
const SEED_MAX: usize = 2_048;

/// The lines that `fuzz/seeds.txt` must have for these rows and has not.
fn unseeded(section: &str, rows: &[Row]) -> Vec<String> {
    let short = rows
        .iter()
        .filter(|row| row.bytes.len() <= SEED_MAX && find(&row.bytes, b"@Z").is_none());
    let lines = short.map(|row| {
        let bytes = replace(&replace(&row.bytes, b"@P", b"/x"), b"@A", b"");
        format!("{section} {} {}", row.id, bytes.escape_ascii())
    });
    lines
        .filter(|line| !SEEDS.lines().any(|seed| seed == line))
        .collect()
}

fn send(address: SocketAddr, front: Front, mark: &str, row: &Row) -> Got {
    let mut bytes = expand(&row.bytes, front, &format!("{mark}-first"));
    if row.cut {
        return client::send_and_end(address, &bytes);
    }
    let second = "GET @P HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    bytes.extend(expand(second.as_bytes(), front, &format!("{mark}-second")));
    client::send(address, &bytes)
}

fn expand(bytes: &[u8], front: Front, mark: &str) -> Vec<u8> {
    let rig = rig();
    let is_post = bytes.starts_with(b"POST");
    let (path, auth) = match front {
        Front::Session => (rig.path(&format!("mirror/{mark}")), String::new()),
        Front::Api if is_post => (format!("/api/v1/sessions?{mark}"), Rig::bearer()),
        Front::Api => (format!("/livez?{mark}"), String::new()),
    };
    let bytes = replace(bytes, b"@P", path.as_bytes());
    let bytes = replace(&bytes, b"@A", auth.as_bytes());
    fill(bytes)
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn fill(bytes: Vec<u8>) -> Vec<u8> {
    let Some(at) = find(&bytes, b"@Z") else {
        return bytes;
    };
    let end = at + 2 + find(&bytes[at + 2..], b"@").unwrap();
    let wanted: usize = latin1(&bytes[at + 2..end]).parse().unwrap();
    let without = bytes.len() - (end + 1 - at);
    let letters = vec![b'z'; wanted - without];
    [&bytes[..at], &letters, &bytes[end + 1..]].concat()
}

fn judge(row: &Row, front: Front, got: &Got) -> Result<(), String> {
    let statuses = got.statuses();
    let shown = || format!("answers {statuses:?} rest {:?}", latin1(&got.rest));
    if !got.closed {
        return Err(format!("left open; {}", shown()));
    }
    if !got.rest.is_empty() {
        return Err(format!("no whole answer; {}", shown()));
    }
    let last_closes = got.answers.last().is_some_and(client::Response::closes);
    let passes = |status: u16| match front {
        Front::Session => status == 200,
        // The content was read, then found to be no JSON; or there is none to read.
        Front::Api if row.bytes.starts_with(b"POST") => status == 415,
        Front::Api => matches!(status, 200 | 204 | 405),
    };
    let fine = match row.want {
        Want::Refuse(accepted) | Want::BreakOff(accepted) => {
            statuses.len() == 1 && accepted.contains(&statuses[0]) && got.interim.is_empty()
        }
        // Refused by its head alone; what comes after it is left unread.
        Want::Pass if front == Front::Api && row.bytes.starts_with(b"OPTIONS") => statuses == [405],
        Want::Pass if row.cut => statuses.len() == 1 && passes(statuses[0]),
        Want::Pass => statuses.len() == 2 && passes(statuses[0]) && statuses[1] == 200,
        Want::ThenRefuse(accepted) => {
            statuses.len() == 2 && passes(statuses[0]) && accepted.contains(&statuses[1])
        }
    };
    if !fine {
        return Err(format!("wanted {:?}; {}", row.want, shown()));
    }
    if !last_closes && !row.cut {
        return Err(format!("does not say that it closes; {}", shown()));
    }
    Ok(())
}
