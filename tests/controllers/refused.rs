//! A store that cannot be used: one clear line, and what the exit code says about a remedy.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::*;

/// Answers everything with this; its thread ends with the test program.
fn says(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = client.read(&mut request);
            let _ = client.write_all(answer.as_bytes());
        }
    });
    at
}

/// Starts a controller that must not come up; gives its exit code and its last words.
fn refusal(bench: &Bench, etcd: &Value) -> (i32, String) {
    let port = ports(1);
    let dir = bench.dir.join(format!("refused-{port}"));
    let config = json!({
        "mode": "controller",
        "server": {"listen": format!("127.0.0.1:{port}"), "admin_token": TOKEN},
        "store": {"etcd": etcd},
    });
    let node = Node::at_rest("controller", dir, port, config);
    let mut child = node.launch(&[]);
    until("the controller to give up", || {
        child.try_wait().unwrap().is_some()
    });
    let code = child.wait().unwrap().code().unwrap();
    let log = node.log();
    let words = log
        .lines()
        .filter(|l| l.contains("etcd"))
        .collect::<Vec<_>>();
    assert_eq!(words.len(), 1, "one line: {log}");
    (code, words[0].to_owned())
}

#[test]
fn what_is_wrong_with_the_store_is_one_line_and_an_exit_code() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    cluster.ctl(&["user", "add", "root:secret"]);
    cluster.ctl(&["user", "grant-role", "root", "root"]);
    cluster.ctl(&["auth", "enable"]);
    let url = |at: SocketAddr| format!("http://{at}");
    let page = says("HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n<html>hello</html>");
    let noise = says("SSH-2.0-OpenSSH_9.2\r\n");
    let old = says("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"version\":\"3.3.27\"}");
    let none = says("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found");
    let real = url(cluster.at(0));
    for (etcd, code, words) in [
        (
            json!({"endpoints": "http://127.0.0.1:1"}),
            69,
            "no member answers",
        ),
        (
            json!({"endpoints": "http://nowhere.invalid:1"}),
            69,
            "cannot resolve",
        ),
        (
            json!({"endpoints": url(page)}),
            78,
            "is no etcd 3.4 or later",
        ),
        (
            json!({"endpoints": url(noise)}),
            78,
            "is no etcd 3.4 or later",
        ),
        (json!({"endpoints": url(none)}), 69, "status 404"),
        (json!({"endpoints": url(old)}), 78, "is version 3.3.27"),
        (json!({"endpoints": real}), 78, "check store.etcd.username"),
        (
            json!({"endpoints": real, "username": "root", "password": "hunter2"}),
            78,
            "authentication failed",
        ),
        (
            json!({"endpoints": format!("https://{}", cluster.at(0))}),
            78,
            "check store.etcd.ca_file",
        ),
    ] {
        let (exit, line) = refusal(&bench, &etcd);
        assert!(line.contains(words), "{etcd}: {line}");
        assert_eq!(exit, code, "{etcd}: {line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
}
