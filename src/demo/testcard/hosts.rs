//! What the API does with hosts: list, show, add, pair, forget, list and quit their apps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api::{CardRefusal, CardState};
use super::gamestream::{RequestBodyError, ServerInfo, is_host};
use super::store::{Host, HostCache, User};
use super::{ndjson, say};
use crate::exec;
use crate::http::Reply;
use crate::http::client::ClientError;

/// Pairings that may wait for their PIN at once; a body takes one at a time anyway.
const PAIRINGS_MAX: usize = 8;

/// Pairings that wait now, in the whole process: there is one server in it.
static PAIRINGS: AtomicUsize = AtomicUsize::new(0);

/// `POST api/host`.
#[derive(Deserialize)]
pub(super) struct NewHost {
    address: String,
    #[serde(default)]
    http_port: Option<u16>,
}

/// A host without asking its body.
#[derive(Serialize)]
struct Undetailed {
    host_id: u32,
    owner: &'static str,
    name: String,
    paired: &'static str,
    server_state: Option<&'static str>,
}

/// A host with what its body says.
#[derive(Serialize)]
struct Detailed {
    #[serde(flatten)]
    plain: Undetailed,
    address: String,
    http_port: u16,
    #[serde(flatten)]
    info: ServerInfo,
}

impl Undetailed {
    fn new(id: u32, host: &Host, state: Option<&'static str>) -> Self {
        Self {
            host_id: id,
            owner: if host.owner.is_some() {
                "ThisUser"
            } else {
                "Global"
            },
            name: host.cache.name.clone(),
            paired: if host.pair_info.is_some() {
                "Paired"
            } else {
                "NotPaired"
            },
            server_state: state,
        }
    }
}

impl Detailed {
    fn new(id: u32, host: &Host, info: ServerInfo) -> Self {
        Self {
            plain: Undetailed::new(id, host, Some(state_of(&info))),
            address: host.address.clone(),
            http_port: host.http_port,
            info,
        }
    }
}

fn state_of(info: &ServerInfo) -> &'static str {
    if info.is_busy { "Busy" } else { "Free" }
}

/// The host if `user` may use it, and the user.
fn find(state: &CardState, user: u32, id: u32) -> Result<(Host, User), CardRefusal> {
    let host = state.store.host(id).ok_or(CardRefusal::NotFound("host"))?;
    if !host.is_for(user) {
        return Err(CardRefusal::Forbidden("the host belongs to somebody else"));
    }
    let user = state
        .store
        .user(user)
        .ok_or(CardRefusal::NotFound("user"))?;
    Ok((host, user))
}

/// All hosts at once as they are remembered, then each again as its body answers.
pub(super) fn list(state: &Arc<CardState>, user: u32) -> Result<Reply, CardRefusal> {
    let (reply, lines) = ndjson::reply();
    let state = state.clone();
    let caller = state
        .store
        .user(user)
        .ok_or(CardRefusal::NotFound("user"))?;
    exec::spawn(async move {
        let known = state.store.hosts_of(user);
        let cached: Vec<_> = known
            .iter()
            .map(|(id, host)| Undetailed::new(*id, host, None))
            .collect();
        lines.put(&json!({ "hosts": cached })).await;
        for (id, host) in &known {
            if let Ok(info) = state.body(host, &caller).server_info().await {
                let line = Undetailed::new(*id, host, Some(state_of(&info)));
                lines.put(&line).await;
            }
        }
    })
    .detach();
    Ok(reply)
}

/// One host with what its body says.
pub(super) async fn show(state: &CardState, user: u32, id: u32) -> Result<Reply, CardRefusal> {
    let (host, user) = find(state, user, id)?;
    let info = state.body(&host, &user).server_info().await?;
    let host = Detailed::new(id, &host, info);
    Ok(Reply::json(200, &json!({ "host": host })))
}

/// Asks a body who it is and keeps it. The same body may be added twice.
pub(super) async fn add(
    state: &CardState,
    user_id: u32,
    new: NewHost,
) -> Result<Reply, CardRefusal> {
    if !is_host(&new.address) {
        return Err(CardRefusal::Bad(
            "address is no IP address or name".to_owned(),
        ));
    }
    let user = state
        .store
        .user(user_id)
        .ok_or(CardRefusal::NotFound("user"))?;
    let default_port = state.settings.moonlight.default_http_port;
    let mut host = Host {
        owner: Some(user_id),
        address: new.address,
        http_port: new.http_port.unwrap_or(default_port),
        pair_info: None,
        cache: HostCache {
            name: String::new(),
            mac: None,
        },
    };
    let info = match state.body(&host, &user).server_info().await {
        Ok(info) => info,
        Err(RequestBodyError::Unreachable(
            ClientError::Connect(..) | ClientError::Resolve(..) | ClientError::Timeout(_),
        )) => return Err(CardRefusal::NotFound("host")),
        Err(error) => return Err(error.into()),
    };
    host.cache = HostCache {
        name: info.name.clone(),
        mac: info.mac.clone(),
    };
    let id = state.store.add_host(host.clone()).await?;
    let host = Detailed::new(id, &host, info);
    Ok(Reply::json(200, &json!({ "host": host })))
}

/// Forgets a host.
pub(super) async fn remove(state: &CardState, user: u32, id: u32) -> Result<Reply, CardRefusal> {
    find(state, user, id)?;
    state.store.remove_host(id).await;
    Ok(Reply::empty(200))
}

/// The PIN at once, then whether the pairing succeeded. It goes on when the caller leaves.
pub(super) fn pair(state: &Arc<CardState>, user: u32, id: u32) -> Result<Reply, CardRefusal> {
    let (host, user) = find(state, user, id)?;
    let place = Place::take().ok_or(CardRefusal::Forbidden("too many pairings wait already"))?;
    let random = getrandom::u32().map_err(|e| CardRefusal::Bad(e.to_string()))?;
    let pin = format!("{:04}", random % 10_000);
    let (reply, lines) = ndjson::reply();
    let state = state.clone();
    exec::spawn(async move {
        lines.put(&json!({ "Pin": pin })).await;
        match paired(&state, id, &host, &user).await {
            Ok(host) => lines.put(&json!({ "Paired": host })).await,
            Err(why) => {
                say::line(
                    "WARN",
                    "web_server::api",
                    format_args!("Failed to pair host: {why}"),
                );
                lines.put(&"PairError").await;
            }
        }
        drop(place);
    })
    .detach();
    Ok(reply)
}

async fn paired(state: &CardState, id: u32, host: &Host, user: &User) -> Result<Detailed, String> {
    if host.pair_info.is_some() {
        return Err("already paired".to_owned());
    }
    let body = state.body(host, user);
    match body.pair().await {
        Ok(true) => {}
        Ok(false) => return Err("the body refuses the PIN".to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    state.store.mark_paired(id).await;
    let info = body
        .server_info()
        .await
        .map_err(|error| error.to_string())?;
    let host = state.store.host(id).ok_or("the host was removed")?;
    Ok(Detailed::new(id, &host, info))
}

/// A place among the waiting pairings, given back on drop.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let more = |n: usize| (n < PAIRINGS_MAX).then(|| n + 1);
        PAIRINGS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
            .then(|| Self) // lazily: a Place that is not taken must not be dropped
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PAIRINGS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The apps of a paired host.
pub(super) async fn apps(state: &CardState, user: u32, id: u32) -> Result<Reply, CardRefusal> {
    let (host, user) = find(state, user, id)?;
    if host.pair_info.is_none() {
        let unpaired = RequestBodyError::Refused(401, "unauthenticated".to_owned());
        return Err(unpaired.into());
    }
    let apps = state.body(&host, &user).apps().await?;
    Ok(Reply::json(200, &json!({ "apps": apps })))
}

/// Quits what runs on a paired host.
pub(super) async fn cancel(state: &CardState, user: u32, id: u32) -> Result<Reply, CardRefusal> {
    let (host, user) = find(state, user, id)?;
    if host.pair_info.is_none() {
        return Err(CardRefusal::Forbidden("host not paired"));
    }
    let success = state.body(&host, &user).cancel().await?;
    Ok(Reply::json(200, &json!({ "success": success })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_pairings_are_bounded_and_places_come_back() {
        let places: Vec<_> = std::iter::from_fn(Place::take).take(100).collect();
        assert_eq!(places.len(), PAIRINGS_MAX);
        drop(places);
        assert!(Place::take().is_some());
    }
}
