//! The client of etcd against a real one: what it asks, whom, and how it takes a refusal.

use std::path::PathBuf;
use std::time::Duration;

use hydraneckwebrtc::testing::config::{Config, Etcd as Settings};
use hydraneckwebrtc::testing::etcd::{EtcdClient, EtcdError, Txn, WatchEvent};
use hydraneckwebrtc::testing::exec::block_on;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::*;

const SILENCE: Duration = Duration::from_secs(20);

fn settings(store: &Value) -> Settings {
    let loaded = Config::parse(&store.to_string(), None).unwrap();
    loaded.config.store.unwrap()
}

fn client(store: &Value) -> EtcdClient {
    EtcdClient::new(&settings(store)).unwrap()
}

fn with(cluster: &Cluster, more: Value) -> Value {
    let mut store = cluster.store();
    for (key, value) in more.as_object().unwrap() {
        store["store"]["etcd"][key] = value.clone();
    }
    store
}

#[test]
fn keys_are_written_under_conditions_and_leases_and_watched_from_a_revision() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let etcd = client(&cluster.store());
    block_on(async {
        etcd.check().await.unwrap();
        let lease = etcd.grant(Duration::from_secs(60)).await.unwrap();
        let claim = Txn::new()
            .when_at("/t/a", 0)
            .put("/t/a", b"1", Some(lease))
            .otherwise_read("/t/a");
        let first = etcd.commit(&claim).await.unwrap();
        assert!(first.succeeded);
        let second = etcd.commit(&claim).await.unwrap();
        let found = second.read[0].as_ref().unwrap();
        assert_eq!(
            (second.succeeded, found.value.as_slice()),
            (false, &b"1"[..])
        );
        assert_eq!(found.mod_revision, first.revision);
        // Inside another transaction, a condition decides about its own part alone.
        let inner = Txn::new().when_at("/t/a", 0).put("/t/a", b"no", None);
        let outer = Txn::new().put("/t/b", &[0, 255], None).and(inner);
        assert!(etcd.commit(&outer).await.unwrap().succeeded);
        let mut watch = etcd.watch("/t/", first.revision, SILENCE).await.unwrap();
        let mut changes = Vec::new();
        assert!(etcd.keep(lease).await.unwrap());
        etcd.revoke(lease).await.unwrap();
        assert!(!etcd.keep(lease).await.unwrap(), "it has ended");
        while changes.len() < 3 {
            changes.extend(watch.next().await.unwrap().changes);
        }
        let said: Vec<String> = changes
            .iter()
            .map(|change| match change {
                WatchEvent::Put(kv) => format!("{}={:?}", kv.key, kv.value),
                WatchEvent::Deleted(key, _) => format!("{key} gone"),
            })
            .collect();
        assert_eq!(said, ["/t/a=[49]", "/t/b=[0, 255]", "/t/a gone"]);
        for n in 0..5 {
            let put = Txn::new().put(&format!("/t/p{n}"), b"x", None);
            etcd.commit(&put).await.unwrap();
        }
        let page = etcd.page("/t/", Some("/t/p1"), 0, 2, true).await.unwrap();
        let keys: Vec<_> = page.kvs.iter().map(|kv| kv.key.as_str()).collect();
        assert_eq!((keys, page.has_more), (vec!["/t/p2", "/t/p3"], true));
        cluster.ctl(&["compact", &page.revision.to_string()]);
        let mut late = etcd.watch("/t/", 2, SILENCE).await.unwrap();
        let lost = loop {
            if let Err(lost) = late.next().await {
                break lost;
            }
        };
        assert!(
            matches!(lost, EtcdError::Compacted(at) if at == page.revision),
            "{lost}"
        );
    });
}

#[test]
fn a_silent_watch_is_lost_and_a_dead_member_is_passed_over() {
    let bench = Bench::new();
    let mut cluster = Cluster::start(&bench.dir, 3);
    let etcd = client(&cluster.store());
    block_on(async {
        let put = Txn::new().put("/t/a", b"1", None);
        until("a leader", || block_on(etcd.commit(&put)).is_ok());
        let short = Duration::from_millis(300);
        let mut watch = etcd.watch("/t/", 0, short).await.unwrap();
        let lost = loop {
            if let Err(lost) = watch.next().await {
                break lost;
            }
        };
        assert!(matches!(lost, EtcdError::WatchLost(_)), "{lost}");
    });
    for dead in 0..3 {
        cluster.kill(dead);
        let put = Txn::new().put("/t/a", b"1", None);
        until("the others to answer", || {
            block_on(etcd.commit(&put)).is_ok()
        });
        cluster.restart(dead);
    }
    cluster.kill_all();
    let gone = block_on(etcd.read("/t/a")).unwrap_err();
    assert!(
        matches!(gone, EtcdError::Unreachable(ref whys) if whys.len() == 3),
        "{gone}"
    );
}

#[test]
fn a_user_needs_its_password_and_tokens_are_taken_anew() {
    let bench = Bench::new();
    let mut cluster = Cluster::start(&bench.dir, 1);
    for line in [
        "user add root:secret",
        "user grant-role root root",
        "role add neck",
        "role grant-permission neck readwrite /hydraneckwebrtc/ --prefix=true",
        "user add neck:pass",
        "user grant-role neck neck",
        "auth enable",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        cluster.ctl(&words);
    }
    let user = |name: &str, password: &str| {
        client(&with(
            &cluster,
            json!({"username": name, "password": password}),
        ))
    };
    let (good, wrong, nobody) = (
        user("neck", "pass"),
        user("neck", "hunter2"),
        client(&cluster.store()),
    );
    block_on(good.check()).unwrap();
    let key = "/hydraneckwebrtc/a";
    let put = |key: &str| Txn::new().put(key, b"1", None);
    assert!(block_on(good.commit(&put(key))).unwrap().succeeded);
    for (who, key, says) in [
        (&wrong, key, "authentication failed"),
        (&nobody, key, "user name is empty"),
        (&good, "/elsewhere", "permission denied"),
    ] {
        let error = block_on(who.commit(&put(key))).unwrap_err();
        assert!(error.is_configuration(), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    // A member that was started again knows no tokens.
    cluster.kill(0);
    cluster.restart(0);
    until("a token to be taken anew", || {
        block_on(good.commit(&put(key))).is_ok()
    });
    let watch = async {
        good.watch("/hydraneckwebrtc/", 0, SILENCE)
            .await?
            .next()
            .await
    };
    block_on(watch).unwrap();
}

/// A CA and, signed by it, a certificate for 127.0.0.1 that serves and calls.
fn certificates(dir: &std::path::Path, name: &str) -> [PathBuf; 3] {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let files = ["ca", "cert", "key"].map(|what| dir.join(format!("{name}-{what}.pem")));
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signed = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    for (file, text) in files
        .iter()
        .zip([signed.pem(), leaf.pem(), key.serialize_pem()])
    {
        std::fs::write(file, text).unwrap();
    }
    files
}

#[test]
fn tls_is_verified_both_ways() {
    let bench = Bench::new();
    let [ca, cert, key] = certificates(&bench.dir, "good");
    let [other_ca, other_cert, other_key] = certificates(&bench.dir, "other");
    let text = |path: &PathBuf| path.display().to_string();
    let (trusted, shown, private) = (text(&ca), text(&cert), text(&key));
    let more = [
        "--client-cert-auth",
        "--trusted-ca-file",
        &trusted,
        "--cert-file",
        &shown,
        "--key-file",
        &private,
    ];
    let cluster = Cluster::start_with(&bench.dir, 1, "https", &more);
    let store = |ca: &PathBuf, identity: Option<(&PathBuf, &PathBuf)>| {
        let mut etcd = json!({"endpoints": cluster.urls("https"), "ca_file": ca});
        if let Some((cert, key)) = identity {
            etcd["certificate"] = json!(cert);
            etcd["private_key"] = json!(key);
        }
        client(&json!({"store": {"etcd": etcd}}))
    };
    let good = store(&ca, Some((&cert, &key)));
    block_on(good.check()).unwrap();
    assert!(
        block_on(good.commit(&Txn::new().put("/t", b"1", None)))
            .unwrap()
            .succeeded
    );
    let distrusts = store(&other_ca, Some((&cert, &key)));
    let error = block_on(distrusts.check()).unwrap_err();
    assert!(
        matches!(error, EtcdError::Tls(_)) && error.is_configuration(),
        "{error}"
    );
    for stranger in [None, Some((&other_cert, &other_key))] {
        let error = block_on(store(&ca, stranger).check()).unwrap_err();
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
    }
    let missing = bench.dir.join("missing.pem");
    let settings = settings(&json!({"store": {"etcd": {
        "endpoints": cluster.urls("https"), "ca_file": missing,
    }}}));
    let error = EtcdClient::new(&settings).unwrap_err();
    assert!(error.to_string().contains("missing.pem"), "{error}");
}
