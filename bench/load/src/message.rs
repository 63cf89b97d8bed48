//! What is sent and when an answer is complete. Bytes only, no sockets.

/// One exchange's request, and what a complete answer looks like.
pub enum Exchange {
    /// The answer is the request itself.
    Echo { payload: Vec<u8> },
    /// The answer is an HTTP/1.1 response with a Content-Length.
    Http { request: Vec<u8> },
}

/// How far one connection's current answer has come.
#[derive(Default)]
pub struct Progress {
    received: usize,
    /// The unparsed beginning of a response that arrived in pieces; nearly always empty.
    head: Vec<u8>,
    /// Length of head and body together, once the head has been seen.
    expected: Option<usize>,
}

impl Exchange {
    pub fn echo(size: usize) -> Self {
        // A pattern whose period is no power of two, so that lost or doubled blocks are noticed.
        Self::Echo {
            payload: (0..size).map(|at| (at % 251) as u8).collect(),
        }
    }

    /// An echo of messages that end in CR and LF, which are nowhere else.
    pub fn lines(size: usize) -> Self {
        let mut payload: Vec<u8> = (0..size).map(|at| b' ' + (at % 83) as u8).collect();
        payload.splice(size - 2.., *b"\r\n");
        Self::Echo { payload }
    }

    pub fn http(path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n");
        Self::Http {
            request: request.into_bytes(),
        }
    }

    pub fn request(&self) -> &[u8] {
        match self {
            Self::Echo { payload } => payload,
            Self::Http { request } => request,
        }
    }

    /// Takes received bytes; true when they complete the answer. `verify` compares an echo byte by byte.
    pub fn receive(&self, progress: &mut Progress, bytes: &[u8], verify: bool) -> Result<bool, String> {
        match self {
            Self::Echo { payload } => {
                let end = progress.received + bytes.len();
                if end > payload.len() {
                    return Err(format!("{end} bytes came back for a message of {}", payload.len()));
                }
                if verify && payload[progress.received..end] != *bytes {
                    return Err("the echo differs from what was sent".to_owned());
                }
                progress.received = end;
                Ok(progress.finish_at(payload.len()))
            }
            Self::Http { .. } => {
                progress.received += bytes.len();
                if progress.expected.is_none() {
                    progress.parse_head(bytes)?;
                }
                match progress.expected {
                    Some(length) if progress.received > length => {
                        Err("more than one response to one request".to_owned())
                    }
                    Some(length) => Ok(progress.finish_at(length)),
                    None => Ok(false),
                }
            }
        }
    }
}

impl Progress {
    fn finish_at(&mut self, length: usize) -> bool {
        if self.received < length {
            return false;
        }
        self.received = 0;
        self.expected = None;
        self.head.clear();
        true
    }

    fn parse_head(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.head.is_empty() {
            self.expected = response_length(bytes)?;
            if self.expected.is_some() {
                return Ok(());
            }
        }
        self.head.extend_from_slice(bytes);
        self.expected = response_length(&self.head)?;
        Ok(())
    }
}

/// Length of a response, head and body; None while its head is incomplete.
fn response_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = &bytes[..head_end];
    let mut lines = head.split(|&byte| byte == b'\n');
    let status = lines.next().unwrap_or_default();
    if !status.starts_with(b"HTTP/1.1 200") {
        return Err(format!(
            "unexpected response: {}",
            String::from_utf8_lossy(status).trim_end()
        ));
    }
    for line in lines {
        const NAME: &[u8] = b"content-length:";
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            let value = String::from_utf8_lossy(&line[NAME.len()..]);
            let body: usize = value
                .trim()
                .parse()
                .map_err(|_| format!("bad Content-Length {value:?}"))?;
            return Ok(Some(head_end + 4 + body));
        }
    }
    Err("a response without Content-Length".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_in_pieces_completes_once() {
        let exchange = Exchange::echo(600);
        let sent = exchange.request().to_vec();
        let mut progress = Progress::default();
        assert!(!exchange.receive(&mut progress, &sent[..599], true).unwrap());
        assert!(exchange.receive(&mut progress, &sent[599..], true).unwrap());
        assert!(exchange.receive(&mut progress, &sent, true).unwrap());
        assert!(exchange.receive(&mut progress, &sent[1..], true).is_err());
    }

    #[test]
    fn a_line_ends_once() {
        let line = Exchange::lines(64).request().to_vec();
        assert_eq!(line.len(), 64);
        assert_eq!(line.iter().position(|&byte| byte == b'\r' || byte == b'\n'), Some(62));
        assert!(line.ends_with(b"\r\n"));
    }

    #[test]
    fn a_response_in_pieces_completes_once() {
        let exchange = Exchange::http("/");
        let response = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\nhello";
        for cut in 1..response.len() {
            let mut progress = Progress::default();
            assert!(!exchange.receive(&mut progress, &response[..cut], false).unwrap());
            assert!(exchange.receive(&mut progress, &response[cut..], false).unwrap());
            assert!(exchange.receive(&mut progress, response, false).unwrap());
        }
    }

    #[test]
    fn errors_are_not_counted_as_answers() {
        let exchange = Exchange::http("/");
        let error = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
        assert!(exchange.receive(&mut Progress::default(), error, false).is_err());
    }
}
