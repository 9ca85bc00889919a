//! As much HTTP/1.1 as a test server needs, written by hand so that it can be written wrongly.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The header `Host`.
    pub host: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// First byte that the header `Range` asks for.
    pub range_from: Option<u64>,
    /// Whether it came to the hub, and not to the host of large files.
    pub to_hub: bool,
}

impl Request {
    /// Reads a request's head; `None` where the client said nothing.
    pub(super) fn read(stream: &mut TcpStream, to_hub: bool) -> std::io::Result<Option<Self>> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte)? == 0 || head.len() > 64 << 10 {
                return Ok(None);
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let header = |name: &str| {
            head.lines()
                .filter_map(|it| it.split_once(": "))
                .find(|it| it.0.eq_ignore_ascii_case(name))
                .map(|it| it.1.to_owned())
        };
        let range_from = header("range")
            .and_then(|it| it.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        Ok(Some(Self {
            method,
            path,
            host: header("host").unwrap_or_default(),
            authorization: header("authorization"),
            range_from,
            to_hub,
        }))
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

/// The body, and whether its bytes count as those of a file.
#[derive(Debug, Clone)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub length: usize,
    pub is_file: bool,
}

impl Body {
    /// As HEAD answers.
    pub fn without_bytes(self) -> Self {
        Self { bytes: Vec::new(), ..self }
    }
}

impl Reply {
    pub fn status(status: u16, value: Value) -> Self {
        let bytes = value.to_string().into_bytes();
        let body = Body { length: bytes.len(), bytes, is_file: false };
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body }
    }

    pub fn json(value: &Value) -> Self {
        Self::status(200, value.clone())
    }

    pub fn missing(code: &str) -> Self {
        let status = if code == "RepoNotFound" { 401 } else { 404 };
        Self::status(status, serde_json::json!({ "error": code })).header("X-Error-Code", code)
    }

    /// A file, or the stretch of it that is asked for.
    pub fn bytes(bytes: &[u8], request: &Request) -> Self {
        let total = bytes.len();
        let from = usize::try_from(request.range_from.unwrap_or(0)).unwrap_or(usize::MAX);
        if request.range_from.is_some() && from >= total {
            return Self::status(416, Value::Null)
                .header("Content-Range", &format!("bytes */{total}"));
        }
        let stretch = bytes[from..].to_vec();
        let body = Body { length: stretch.len(), bytes: stretch, is_file: true };
        let reply =
            Self { status: 200, headers: Vec::new(), body }.header("Accept-Ranges", "bytes");
        if request.range_from.is_none() {
            return reply;
        }
        let range = format!("bytes {from}-{}/{total}", total - 1);
        Self { status: 206, ..reply }.header("Content-Range", &range)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|it| !it.0.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The head, with a length that may be a lie.
    pub fn head(&self, length: Option<usize>) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(length) = length {
            head += &format!("Content-Length: {length}\r\n");
        }
        (head + "\r\n").into_bytes()
    }

    /// Sends all of it. `count` hears of each piece of a file's bytes; `true` from it ends it.
    pub fn send(
        &self,
        stream: &mut TcpStream,
        throttle: u64,
        mut count: impl FnMut(usize) -> bool,
    ) -> std::io::Result<()> {
        stream.write_all(&self.head(Some(self.body.length)))?;
        let piece = match throttle {
            0 => 64 << 10,
            it => usize::try_from(it / 50).unwrap_or(usize::MAX).max(1),
        };
        for bytes in self.body.bytes.chunks(piece) {
            stream.write_all(bytes)?;
            if self.body.is_file && count(bytes.len()) {
                return Ok(());
            }
            if throttle > 0 {
                pause(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

/// Waits: a slow server is the very thing that is tested.
pub fn pause(time: Duration) {
    let end = std::time::Instant::now() + time;
    while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
        std::thread::park_timeout(left);
    }
}
