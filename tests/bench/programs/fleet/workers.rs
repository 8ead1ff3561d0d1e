//! Simulated workers that make sessions at once.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use hydraneckwebrtc::testing::protocol::{CreateSession, SessionView};
use serde_json::json;

use super::caller::head;
use super::{Outcome, session};

/// Slots of such a worker: what is measured are creates, not refusals, and a session holds one until
/// its worker has told of it.
pub(crate) const ROOMY: usize = 60;

/// What the simulated workers have.
pub(crate) struct Workers {
    pub(crate) sessions: Vec<Mutex<Vec<SessionView>>>,
    pub(crate) at: String,
}

/// Serves every worker's API on one port: creates, and nothing else.
pub(crate) fn serve(workers: usize) -> Outcome<Arc<Workers>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let all = Arc::new(Workers {
        sessions: (0..workers).map(|_| Mutex::default()).collect(),
        at: format!("http://{}", listener.local_addr()?),
    });
    let served = Arc::clone(&all);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let served = Arc::clone(&served);
            thread::spawn(move || while_open(&served, stream));
        }
    });
    Ok(all)
}

fn while_open(workers: &Workers, stream: TcpStream) -> Outcome<()> {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let n = line.split('/').nth(1).and_then(|n| n.parse::<usize>().ok());
        let n = n.ok_or("no worker's path")?;
        let (_, length, closes) = head(&mut stream)?;
        let mut content = vec![0; length];
        stream.read_exact(&mut content)?;
        let wish: CreateSession = serde_json::from_slice(&content)?;
        let view = session(wish.body_ip)?;
        let id = view.id.clone();
        let mut its = workers.sessions[n].lock().map_err(|_| "poisoned")?;
        let status = if its.len() < ROOMY {
            its.push(view);
            "201 Created"
        } else {
            "503 Service Unavailable"
        };
        drop(its);
        let answer = json!({
            "session_id": id, "stream_url": format!("{}/session/{id}/", workers.at),
            "worker_id": format!("w{n:05}"), "status": "ready",
            "error": "full", "code": 503, "reason": "no_capacity", "request_id": "",
        })
        .to_string();
        write!(
            stream.get_mut(),
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        )?;
        if closes {
            return Ok(());
        }
    }
}
