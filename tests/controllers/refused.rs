//! A store that cannot be used: one clear line, and what the exit code says about a remedy.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::fleet::controller;
use crate::support::*;

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
    let page = answers_always("HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n<html>hello</html>");
    let noise = answers_always("SSH-2.0-OpenSSH_9.2\r\n");
    let old =
        answers_always("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"version\":\"3.3.27\"}");
    let real = url(cluster.at(0));
    for (etcd, words) in [
        (json!({"endpoints": url(page)}), "is no etcd 3.4 or later"),
        (json!({"endpoints": url(noise)}), "is no etcd 3.4 or later"),
        (json!({"endpoints": url(old)}), "is version 3.3.27"),
        (json!({"endpoints": real}), "check store.etcd.username"),
        (
            json!({"endpoints": real, "username": "root", "password": "hunter2"}),
            "authentication failed",
        ),
        (
            json!({"endpoints": format!("https://{}", cluster.at(0))}),
            "check store.etcd.ca_file",
        ),
    ] {
        let (exit, line) = refusal(&bench, &etcd);
        assert!(line.contains(words), "{etcd}: {line}");
        assert_eq!(exit, 78, "{etcd}: {line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[test]
fn a_store_that_may_still_come_is_waited_for_with_one_line() {
    let bench = Bench::new();
    let none = answers_always("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found");
    for (endpoint, words) in [
        ("http://127.0.0.1:1".to_owned(), "no member answers"),
        ("http://nowhere.invalid:1".to_owned(), "cannot resolve"),
        (format!("http://{none}"), "status 404"),
    ] {
        let store = json!({"store": {"etcd": {"endpoints": endpoint}}});
        let mut node = controller(&bench, &format!("waits-{}", ports(1)), &store);
        let ready = node.call("GET", "/readyz", None);
        assert_eq!((ready.status, ready.reason().as_str()), (503, "store_away"));
        let log = node.log();
        let lines: Vec<_> = log
            .lines()
            .filter(|l| l.contains("not there yet"))
            .collect();
        assert!(lines.len() == 1 && lines[0].contains(words), "{log}");
        assert!(node.stop().success());
    }
}
