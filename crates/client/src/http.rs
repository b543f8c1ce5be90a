//! One answer of HTTP/1.1, taken in as it comes. Whoever sends it may send anything, a byte at a time
//! and without an end: what is kept has a limit, and no byte is looked at more often than a few
//! times.

/// Longest head: the status line and all headers.
const HEAD: usize = 64 << 10;
/// Most headers.
const HEADERS: usize = 128;
/// Longest line that says how long a chunk is, with whatever it says besides.
const CHUNK_LINE: usize = 1 << 10;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The body, out of its chunks.
    pub body: Vec<u8>,
}

/// What is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The head, or the rest of it.
    Head,
    /// So many bytes of a body whose length was told.
    Bytes(usize),
    /// A line that tells how long a chunk is.
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(usize),
    /// The line's end after a chunk.
    ChunkEnd,
    /// Whatever comes, until the other end closes.
    Rest,
    /// Nothing.
    Done,
}

/// Takes an answer in.
#[derive(Debug)]
pub struct Reader {
    next: Next,
    status: u16,
    /// What came and was not used yet.
    waiting: Vec<u8>,
    body: Vec<u8>,
    cap: usize,
}

impl Reader {
    /// One whose body may have so many bytes.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Self { next: Next::Head, status: 0, waiting: Vec::new(), body: Vec::new(), cap }
    }

    /// Takes what came; true when that was the last of it.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<bool, String> {
        while !bytes.is_empty() && self.next != Next::Done {
            bytes = match self.next {
                Next::Head => self.head(bytes)?,
                Next::Bytes(left) => {
                    let (now, rest) = bytes.split_at(left.min(bytes.len()));
                    self.keep(now)?;
                    let left = left - now.len();
                    self.next = if left == 0 { Next::Done } else { Next::Bytes(left) };
                    rest
                }
                Next::ChunkSize => self.chunk_size(bytes)?,
                Next::Chunk(left) => {
                    let (now, rest) = bytes.split_at(left.min(bytes.len()));
                    self.keep(now)?;
                    let left = left - now.len();
                    self.next = if left == 0 { Next::ChunkEnd } else { Next::Chunk(left) };
                    rest
                }
                Next::ChunkEnd => self.chunk_end(bytes)?,
                Next::Rest => {
                    self.keep(bytes)?;
                    &[]
                }
                Next::Done => &[],
            };
        }
        Ok(self.next == Next::Done)
    }

    /// The answer, now that the other end has closed or all of it is there.
    ///
    /// # Errors
    /// When it is not whole.
    pub fn end(self) -> Result<Response, String> {
        match self.next {
            Next::Done | Next::Rest => Ok(Response { status: self.status, body: self.body }),
            Next::Head if self.waiting.is_empty() => Err("it closes without an answer".into()),
            _ => Err("its answer is cut short".into()),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() > self.cap - self.body.len() {
            return Err(format!("its answer has more than {} bytes", self.cap));
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes bytes of the head; what comes after it.
    fn head<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], String> {
        // Only with the end of a line can it be whole: until then nothing is looked at again.
        let line = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1);
        let (now, rest) = bytes.split_at(line);
        self.waiting.extend_from_slice(now);
        // What is none is told by its first bytes: the parser passes over empty lines for ever.
        if self.waiting.iter().zip(b"HTTP/").any(|(ours, theirs)| ours != theirs) {
            return Err("no HTTP: it begins with something else".into());
        }
        if self.waiting.len() > HEAD {
            return Err(format!("the head of its answer has more than {HEAD} bytes"));
        }
        let whole = [&b"\n\n"[..], b"\n\r\n"].iter().any(|end| self.waiting.ends_with(end));
        if !whole && !self.is_first_line() {
            return Ok(rest);
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&self.waiting).map_err(|e| format!("no HTTP: {e}"))?;
        if parsed.is_partial() {
            return Ok(rest);
        }
        self.status = response.code.unwrap_or_default();
        self.next = match self.status {
            // Informational ones are asked for by nobody; these have no body.
            // RFC 9110, section 15: others there are none.
            0..=99 | 600.. => return Err("no HTTP: a status that is none".into()),
            100..=199 => return Err(format!("it answers with status {}", self.status)),
            204 | 304 => Next::Done,
            _ => body(response.headers, self.cap)?,
        };
        self.waiting.clear();
        Ok(rest)
    }

    /// Whether what waits is one line: garbage is told by that, however long the rest takes.
    fn is_first_line(&self) -> bool {
        self.waiting.ends_with(b"\n") && !self.waiting[..self.waiting.len() - 1].contains(&b'\n')
    }

    fn chunk_size<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], String> {
        let line = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1);
        let (now, rest) = bytes.split_at(line);
        self.waiting.extend_from_slice(now);
        if self.waiting.len() > CHUNK_LINE {
            return Err("no HTTP: a chunk without a size".into());
        }
        if !self.waiting.ends_with(b"\n") {
            return Ok(rest);
        }
        let size = match httparse::parse_chunk_size(&self.waiting) {
            Ok(httparse::Status::Complete((used, size))) if used == self.waiting.len() => size,
            _ => return Err("no HTTP: a chunk without a size".into()),
        };
        self.waiting.clear();
        // After the last one only trailers come, which say nothing.
        self.next = match usize::try_from(size) {
            Ok(0) => Next::Done,
            Ok(size) if size <= self.cap => Next::Chunk(size),
            _ => return Err(format!("its answer has more than {} bytes", self.cap)),
        };
        Ok(rest)
    }

    fn chunk_end<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], String> {
        let (first, rest) = bytes.split_at(1);
        self.waiting.extend_from_slice(first);
        match self.waiting.as_slice() {
            b"\r" => {}
            b"\r\n" => {
                self.waiting.clear();
                self.next = Next::ChunkSize;
            }
            _ => return Err("no HTTP: a chunk of another size".into()),
        }
        Ok(rest)
    }
}

/// How the body comes, by the headers.
fn body(headers: &[httparse::Header<'_>], cap: usize) -> Result<Next, String> {
    let mut length: Option<usize> = None;
    let mut chunked = false;
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err("its answer is encoded in a way that was not asked for".into());
            }
            chunked = true;
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let digits = std::str::from_utf8(header.value.trim_ascii()).unwrap_or_default();
            let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let told = all.then(|| digits.parse().unwrap_or(usize::MAX));
            let told = told.ok_or("no HTTP: a length that is no number")?;
            if length.is_some_and(|other| other != told) {
                return Err("no HTTP: two lengths".into());
            }
            length = Some(told);
        }
    }
    match (chunked, length) {
        (true, Some(_)) => Err("no HTTP: a length and chunks".into()),
        (true, None) => Ok(Next::ChunkSize),
        (false, Some(0)) => Ok(Next::Done),
        (false, Some(length)) if length > cap => {
            Err(format!("its answer has {length} bytes, more than {cap}"))
        }
        (false, Some(length)) => Ok(Next::Bytes(length)),
        (false, None) => Ok(Next::Rest),
    }
}

/// An answer that is there as a whole.
///
/// # Errors
/// As [`Reader`].
pub fn parse(bytes: &[u8], cap: usize) -> Result<Response, String> {
    let mut reader = Reader::new(cap);
    reader.take(bytes)?;
    reader.end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::{HEAD, Reader, Response, parse};

    const CAP: usize = 1000;

    fn body(text: &str) -> Result<String, String> {
        parse(text.as_bytes(), CAP).map(|r| String::from_utf8(r.body).unwrap())
    }

    #[test]
    fn a_body_of_a_length_in_chunks_or_until_the_end() {
        let ok = "HTTP/1.1 200 OK\r\n";
        assert_eq!(body(&format!("{ok}Content-Length: 2\r\n\r\n[]{{}}")), Ok("[]".into()));
        let chunks = "Transfer-Encoding: Chunked\r\n\r\n1\r\n[\r\n1;x=y\r\n]\r\n0\r\n\r\n";
        assert_eq!(body(&format!("{ok}{chunks}")), Ok("[]".into()));
        assert_eq!(body(&format!("{ok}Server: x\r\n\r\n[ ]\n")), Ok("[ ]\n".into()));
        assert_eq!(body(&format!("{ok}Content-Length: 0\r\n\r\n")), Ok(String::new()));
        let missing = parse(b"HTTP/1.0 404 Not Found\r\nContent-Length: 1\r\n\r\nx", CAP);
        assert_eq!(missing, Ok(Response { status: 404, body: b"x".into() }));
    }

    #[test]
    fn what_is_not_whole_is_none() {
        for cut in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n",
        ] {
            assert!(body(cut).is_err(), "{cut}");
        }
    }

    #[test]
    fn garbage_is_told_with_the_first_line() {
        for garbage in ["\n", "hello\n", "SSH-2.0-x\r\n", "\0\u{1}\n", "HTTP/3 200\n", "{}\n"] {
            assert!(Reader::new(CAP).take(garbage.as_bytes()).is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn nothing_is_longer_than_it_may_be() {
        let ok = "HTTP/1.1 200 OK\r\n";
        let long = "x".repeat(CAP + 1);
        for huge in [
            format!("{ok}Content-Length: 1001\r\n\r\n"),
            format!("{ok}Content-Length: 99999999999999999999999999\r\n\r\n"),
            format!("{ok}\r\n{long}"),
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n3e9\r\n"),
            format!("{ok}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n{}", "1".repeat(2000)),
            format!("{ok}A: {}", "x".repeat(HEAD)),
            format!("{ok}{}", "A: b\r\n".repeat(200) + "\r\n"),
            "x".repeat(HEAD + 1),
        ] {
            let mut reader = Reader::new(CAP);
            assert!(reader.take(huge.as_bytes()).is_err(), "{}", &huge[..60]);
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for head in [
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: -1",
            "Content-Length: 1x",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
        ] {
            assert!(body(&format!("{ok}{head}\r\n\r\n[]")).is_err(), "{head}");
        }
        for status in ["100 Continue", "020 OK", "000 OK", "999 OK"] {
            assert!(body(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).is_err());
        }
        let bad = "Transfer-Encoding: chunked\r\n\r\n1\r\n[]\r\n0\r\n\r\n";
        assert!(body(&format!("{ok}{bad}")).is_err());
    }

    proptest! {
        #[test]
        fn pieces_make_the_same_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            chunks in prop::collection::vec(1_usize..9, 0..20),
            step in 1_usize..7,
            is_chunked in any::<bool>(),
        ) {
            let mut sent = b"HTTP/1.1 200 OK\r\n".to_vec();
            if is_chunked {
                sent.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                let mut rest = bytes.as_slice();
                for size in chunks.iter().cycle().take(400) {
                    let (now, later) = rest.split_at((*size).min(rest.len()));
                    sent.extend_from_slice(format!("{:x}\r\n", now.len()).as_bytes());
                    sent.extend_from_slice(now);
                    sent.extend_from_slice(b"\r\n");
                    rest = later;
                    if now.is_empty() { break; }
                }
                if chunks.is_empty() { sent.extend_from_slice(b"0\r\n\r\n"); }
            } else {
                sent.extend_from_slice(format!("content-length: {}\r\n\r\n", bytes.len()).as_bytes());
                sent.extend_from_slice(&bytes);
            }
            let mut reader = Reader::new(CAP);
            for piece in sent.chunks(step) {
                reader.take(piece).unwrap();
            }
            let whole = parse(&sent, CAP).unwrap();
            assert_eq!(reader.end().unwrap(), whole);
            if !is_chunked || !chunks.is_empty() {
                assert_eq!(whole.body, bytes);
            }
        }
    }
}
