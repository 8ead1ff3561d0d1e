//! A proxy before a member of etcd that does to calls what sick stores and their proxies do.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::*;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is passed on, and its answer comes back.
    Passes,
    /// It does not arrive; the answer is a proxy's 502.
    BadGateway,
    /// It arrives, and its answer is lost with the connection.
    LosesAnswers,
    /// It arrives after this time, whether or not the caller still waits.
    Late(Duration),
    /// Its answer breaks off after so many bytes.
    CutAfter(usize),
}

#[derive(Clone, Copy)]
struct Rule {
    /// Calls whose path contains this; the others pass.
    path: &'static str,
    way: Way,
}

/// A proxy; its thread ends with the test program.
pub struct SickStore {
    pub at: SocketAddr,
    /// Answers that broke off.
    pub cuts: Arc<AtomicUsize>,
    rule: Arc<Mutex<Rule>>,
    target: Arc<Mutex<SocketAddr>>,
}

impl SickStore {
    pub fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let passes = Rule {
            path: "",
            way: Way::Passes,
        };
        let (rule, target) = (Arc::new(Mutex::new(passes)), Arc::new(Mutex::new(target)));
        let cuts = Arc::new(AtomicUsize::new(0));
        let (its_rule, its_target) = (Arc::clone(&rule), Arc::clone(&target));
        let its_cuts = Arc::clone(&cuts);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (rule, target) = (Arc::clone(&its_rule), *its_target.lock().unwrap());
                let cuts = Arc::clone(&its_cuts);
                thread::spawn(move || serve(&client, target, &rule, &cuts));
            }
        });
        Self {
            at,
            cuts,
            rule,
            target,
        }
    }

    /// From now on calls whose path contains `path` go that way.
    pub fn set(&self, path: &'static str, way: Way) {
        *self.rule.lock().unwrap() = Rule { path, way };
    }

    pub fn passes(&self) {
        self.set("", Way::Passes);
    }

    /// Leads to another store from now on.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }

    /// The `store` section of a controller behind it.
    pub fn store(&self) -> Value {
        json!({"store": {"etcd": {"endpoints": format!("http://{}", self.at)}}})
    }
}

/// Serves one call a connection.
fn serve(
    mut client: &TcpStream,
    target: SocketAddr,
    rule: &Mutex<Rule>,
    cuts: &AtomicUsize,
) -> Option<()> {
    let (head, body) = request(client)?;
    let path = head.split(' ').nth(1)?.to_owned();
    let Rule { path: wanted, way } = *rule.lock().unwrap();
    let way = if path.contains(wanted) {
        way
    } else {
        Way::Passes
    };
    if way == Way::BadGateway {
        let answer = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 11\r\nConnection: close\r\n\r\nBad Gateway";
        return client.write_all(answer.as_bytes()).ok();
    }
    if let Way::Late(after) = way {
        pause(after);
    }
    let began = way;
    let mut upstream = TcpStream::connect(target).ok()?;
    let rest = head.split_once("\r\n")?;
    // So that the end of the answer is the end of the connection.
    let head = format!("{}\r\nConnection: close\r\n{}", rest.0, rest.1);
    upstream.write_all(head.as_bytes()).ok()?;
    upstream.write_all(&body).ok()?;
    let mut left = if let Way::CutAfter(bytes) = way {
        bytes
    } else {
        usize::MAX
    };
    let mut piece = [0; 16 * 1024];
    // Where this goes to is closed by the caller when it gives up.
    while let Ok(n @ 1..) = upstream.read(&mut piece) {
        let n = n.min(left);
        left -= n;
        if way != Way::LosesAnswers && client.write_all(&piece[..n]).is_err() || left == 0 {
            cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
        // A rule that cuts ends answers that are on their way, too.
        let Rule { path: wanted, way } = *rule.lock().unwrap();
        let cuts = matches!(way, Way::BadGateway | Way::CutAfter(_));
        if cuts && way != began && path.contains(wanted) {
            break;
        }
    }
    client.shutdown(Shutdown::Both).ok()
}

fn request(mut client: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut seen = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let n = client.read(&mut piece).ok().filter(|n| *n > 0)?;
        seen.extend_from_slice(&piece[..n]);
        let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&seen[..end + 4]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("content-length");
            is_it.then(|| value.trim().parse::<usize>().ok()).flatten()
        });
        let mut body = seen.split_off(end + 4);
        while body.len() < length.unwrap_or_default() {
            let n = client.read(&mut piece).ok().filter(|n| *n > 0)?;
            body.extend_from_slice(&piece[..n]);
        }
        // One call a connection.
        let head = head
            .lines()
            .filter(|l| !l.to_ascii_lowercase().starts_with("connection:"));
        let head: Vec<&str> = head.collect();
        return Some((format!("{}\r\n", head.join("\r\n")), body));
    }
}
