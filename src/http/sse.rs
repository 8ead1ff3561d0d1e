//! Server-sent events (WHATWG HTML section 9.2): a bounded feed for one listener.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use smol::Timer;
use smol::channel::{Receiver, Sender, TrySendError, bounded};
use smol::io::AsyncRead;
use smol::stream::Stream;

use super::reply::Reply;

/// Events a slow listener may have waiting before it is dropped.
pub(crate) const BACKLOG: usize = 256;
/// Comment sent when nothing else is, so that proxies and listeners know the stream lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// One event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Event {
    /// Id for `Last-Event-ID`, if it can be resumed from.
    pub id: Option<u64>,
    /// Its name.
    pub name: String,
    /// One line of data, usually JSON.
    pub data: String,
}

impl Event {
    fn encode(&self) -> Vec<u8> {
        let mut text = String::with_capacity(self.data.len() + self.name.len() + 40);
        if let Some(id) = self.id {
            text.push_str(&format!("id: {id}\n"));
        }
        text.push_str(&format!("event: {}\n", self.name));
        for line in self.data.lines() {
            text.push_str(&format!("data: {line}\n"));
        }
        text.push('\n');
        text.into_bytes()
    }
}

/// The sending end of a feed. Dropping it ends the stream.
#[derive(Clone, Debug)]
pub(crate) struct Feed(Sender<Event>);

/// Why an event could not be put on a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The listener is gone.
    Gone,
    /// The listener is too slow; it is cut off.
    Slow,
}

impl Feed {
    /// Puts an event on the feed without waiting.
    ///
    /// # Errors
    /// When the listener is gone or [`BACKLOG`] events behind; forget the feed then.
    pub(crate) fn send(&self, event: Event) -> Result<(), Lost> {
        self.0.try_send(event).map_err(|e| match e {
            TrySendError::Closed(_) => Lost::Gone,
            TrySendError::Full(_) => {
                self.0.close();
                Lost::Slow
            }
        })
    }

    /// Whether the listener has gone.
    #[must_use]
    pub(crate) fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// A feed and the reply that carries it. `keep` is dropped when the listener is gone: put guards
/// into it.
#[must_use]
pub(crate) fn feed(keep: impl Send + Sync + Unpin + 'static) -> (Feed, Reply) {
    let (sender, receiver) = bounded(BACKLOG);
    let source = EventSource {
        events: Box::pin(receiver),
        pending: io::Cursor::new(b": connected\n\n".to_vec()),
        heartbeat: Timer::after(HEARTBEAT),
        _keep: keep,
    };
    let reply = Reply::stream("text/event-stream", source)
        .header("Cache-Control", "no-store")
        .header("X-Accel-Buffering", "no");
    (Feed(sender), reply)
}

struct EventSource<K> {
    events: Pin<Box<Receiver<Event>>>,
    pending: io::Cursor<Vec<u8>>,
    heartbeat: Timer,
    _keep: K,
}

impl<K: Unpin> AsyncRead for EventSource<K> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            let n = io::Read::read(&mut this.pending, buf)?;
            if n > 0 {
                return Poll::Ready(Ok(n));
            }
            match this.events.as_mut().poll_next(cx) {
                Poll::Ready(Some(event)) => this.pending = io::Cursor::new(event.encode()),
                Poll::Ready(None) => return Poll::Ready(Ok(0)),
                Poll::Pending => {
                    if Pin::new(&mut this.heartbeat).poll_next(cx).is_pending() {
                        return Poll::Pending;
                    }
                    this.heartbeat = Timer::after(HEARTBEAT);
                    this.pending = io::Cursor::new(b": alive\n\n".to_vec());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_encoded_with_its_id_name_and_lines() {
        let event = Event {
            id: Some(7),
            name: "ended".into(),
            data: "{\n}".into(),
        };
        assert_eq!(event.encode(), b"id: 7\nevent: ended\ndata: {\ndata: }\n\n");
    }

    #[test]
    fn a_listener_that_does_not_read_is_cut_off_after_the_backlog() {
        let (feed, _reply) = feed(());
        for _ in 0..BACKLOG {
            assert_eq!(feed.send(Event::default()), Ok(()));
        }
        assert_eq!(feed.send(Event::default()), Err(Lost::Slow));
        assert!(feed.is_gone());
    }
}
