//! Reads request and response heads from a connection, with limits on size and time.

use std::io;
use std::time::Duration;

use super::conn::Conn;
use super::head::{HeadLimits, HeadRefusal, HeadScanner, RequestHead, ResponseHead};

/// Why no head could be read.
#[derive(Debug)]
pub enum HeadError {
    /// The connection failed, or closed inside the head.
    Io(io::Error),
    /// The bytes are not an acceptable head.
    Refused(HeadRefusal),
    /// The head was not complete in time.
    Timeout,
}

impl Conn {
    /// Reads a request head within `span`. `None` when the peer closed before the first byte.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub async fn read_request(
        &mut self,
        limits: &HeadLimits,
        span: Duration,
    ) -> Result<Option<RequestHead>, HeadError> {
        let Some(len) = self.read_head(limits, span).await? else {
            return Ok(None);
        };
        let head = RequestHead::parse(&self.unread()[..len], limits).map_err(HeadError::Refused)?;
        self.consume(len);
        Ok(Some(head))
    }

    /// Reads a response head within `span`. `None` when the peer closed before the first byte.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub async fn read_response(
        &mut self,
        limits: &HeadLimits,
        span: Duration,
    ) -> Result<Option<ResponseHead>, HeadError> {
        let Some(len) = self.read_head(limits, span).await? else {
            return Ok(None);
        };
        let head =
            ResponseHead::parse(&self.unread()[..len], limits).map_err(HeadError::Refused)?;
        self.consume(len);
        Ok(Some(head))
    }

    async fn read_head(
        &mut self,
        limits: &HeadLimits,
        span: Duration,
    ) -> Result<Option<usize>, HeadError> {
        let mut scanner = HeadScanner::default();
        self.deadline().set(span);
        loop {
            let scanned = scanner.scan(self.unread(), limits);
            if let Some(len) = scanned.map_err(HeadError::Refused)? {
                self.deadline().clear();
                return Ok(Some(len));
            }
            match self.fill().await {
                Ok(0) if self.unread().is_empty() => return Ok(None),
                Ok(0) => return Err(HeadError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(HeadError::Timeout),
                Err(e) => return Err(HeadError::Io(e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::TcpStream;

    const SOON: Duration = Duration::from_secs(5);

    fn pair() -> (TcpStream, Conn) {
        let (client, socket) = crate::wire::tests::pair();
        (client, Conn::new(socket))
    }

    fn request(conn: &mut Conn) -> Result<Option<RequestHead>, HeadError> {
        smol::block_on(conn.read_request(&HeadLimits::REQUEST, SOON))
    }

    #[test]
    fn pipelined_requests_are_read_one_after_the_other() {
        let (mut client, mut conn) = pair();
        client
            .write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        drop(client);
        assert_eq!(request(&mut conn).unwrap().unwrap().target, "/1");
        assert_eq!(request(&mut conn).unwrap().unwrap().target, "/2");
        assert!(request(&mut conn).unwrap().is_none());
    }

    #[test]
    fn a_head_larger_than_the_first_buffer_is_read_whole() {
        let (mut client, mut conn) = pair();
        let head = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "y".repeat(12_000)
        );
        client.write_all(head.as_bytes()).unwrap();
        assert_eq!(
            request(&mut conn)
                .unwrap()
                .unwrap()
                .fields
                .get("x")
                .unwrap()
                .len(),
            12_000
        );
    }

    #[test]
    fn a_missing_or_incomplete_head_times_out() {
        let (mut client, mut conn) = pair();
        for bytes in [&b""[..], b"GET / HT"] {
            client.write_all(bytes).unwrap();
            let short = Duration::from_millis(1);
            let head = smol::block_on(conn.read_request(&HeadLimits::REQUEST, short));
            assert!(matches!(head, Err(HeadError::Timeout)));
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_at_the_limit() {
        let (mut client, mut conn) = pair();
        let writer = std::thread::spawn(move || {
            let _ = client.write_all(b"GET / HTTP/1.1\r\nX: ");
            while client.write_all(&[b'a'; 65_536]).is_ok() {}
        });
        let refused = request(&mut conn);
        assert!(matches!(
            refused,
            Err(HeadError::Refused(HeadRefusal::HeadTooLarge(_)))
        ));
        drop(conn);
        writer.join().unwrap();
    }
}
