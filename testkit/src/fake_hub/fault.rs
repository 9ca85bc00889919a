//! What can go wrong between a hub and a client, one thing at a time.

use std::{
    io::Write,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::Value;

use super::request::{Reply, Request, pause};

/// Which requests a fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The list of files.
    List,
    /// The hub's answer about a large file, which is a redirect.
    Redirect,
    /// Bytes of any file.
    Bytes,
}

impl Place {
    pub(super) fn is_here(self, request: &Request, reply: &Reply) -> bool {
        match self {
            Self::List => request.path.starts_with("/api/"),
            Self::Redirect => reply.status == 302,
            Self::Bytes => reply.body.is_file,
        }
    }
}

/// A fault. Numbers are chosen by the test's seed.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection ends at once.
    HangUp,
    /// The body ends after so many bytes of it, in the middle of what was promised.
    CutAt(usize),
    /// A shorter body than the file, with a head that agrees.
    ShortBody(usize),
    /// More bytes than the file has, with a head that agrees.
    LongBody(usize),
    /// More bytes than the head says.
    MoreThanPromised(usize),
    /// One bit is another.
    FlipBit(usize),
    /// All bytes are zero.
    Zeros,
    /// A page for people, with status 200.
    LoginPage,
    /// A page of the same length as the file, with status 200.
    LoginPageOfSameLength,
    /// A status, with the seconds of `Retry-After` where there are any.
    Status(u16, Option<u64>),
    /// `Range` is ignored: the whole file, with status 200.
    RangeIgnored,
    /// Another stretch than asked for, under its true name.
    OtherRange,
    /// Another stretch than asked for, under the name of the right one.
    LyingRange,
    /// A few bytes now and then.
    Drip,
    /// A head, and then nothing.
    Stall,
    /// Not even a head.
    Silence,
    /// A redirect to this address.
    RedirectTo(String),
    /// A redirect to itself.
    RedirectLoop,
    /// Bytes that say they are compressed.
    Compressed,
    /// No length, and an end before the end.
    NoLength(usize),
    /// Chunks without an end.
    Endless,
    /// Chunks with a broken size.
    BrokenChunks,
    /// Something that is no HTTP.
    Garbage,
    /// A head without an end.
    EndlessHead,
    /// Headers that name paths and other commits.
    HostileHeaders,
    /// The file belongs to another commit.
    OtherCommit,
    /// The list of files is changed: `(pointer, value)`, as JSON pointers go.
    List(Vec<(String, Value)>),
    /// The list of files ends early.
    ListCutAt(usize),
}

impl Fault {
    pub(super) fn strike(
        self,
        stream: &mut TcpStream,
        request: &Request,
        mut reply: Reply,
        over: &AtomicBool,
    ) -> std::io::Result<()> {
        let length = reply.body.bytes.len();
        let everything = |reply: &Reply| {
            [reply.head(Some(reply.body.bytes.len())), reply.body.bytes.clone()].concat()
        };
        match self {
            Self::HangUp => Ok(()),
            Self::CutAt(at) | Self::ListCutAt(at) => {
                stream.write_all(&reply.head(Some(length)))?;
                stream.write_all(&reply.body.bytes[..at.min(length.saturating_sub(1))])
            }
            Self::ShortBody(by) => {
                reply.body.bytes.truncate(length.saturating_sub(by.max(1)));
                stream.write_all(&everything(&reply))
            }
            Self::LongBody(by) => {
                reply.body.bytes.extend(vec![7; by.max(1)]);
                stream.write_all(&everything(&reply))
            }
            Self::MoreThanPromised(by) => {
                stream.write_all(&everything(&reply))?;
                stream.write_all(&vec![7; by.max(1)])
            }
            Self::FlipBit(at) => {
                if let Some(byte) = reply.body.bytes.get_mut(at % length.max(1)) {
                    *byte ^= 1;
                }
                stream.write_all(&everything(&reply))
            }
            Self::Zeros => {
                reply.body.bytes.fill(0);
                stream.write_all(&everything(&reply))
            }
            Self::LoginPage => {
                reply.status = 200;
                reply.body.bytes = b"<html><body>Please log in.</body></html>".to_vec();
                stream.write_all(&everything(&reply.header("Content-Type", "text/html")))
            }
            Self::LoginPageOfSameLength => {
                let page = b"<html>Please log in.</html>".iter().copied().cycle();
                reply.body.bytes = page.take(length).collect();
                stream.write_all(&everything(&reply))
            }
            Self::Status(status, wait) => {
                let reply = Reply::status(status, Value::Null);
                let reply = match wait {
                    Some(seconds) => reply.header("Retry-After", &seconds.to_string()),
                    None => reply,
                };
                stream.write_all(&everything(&reply))
            }
            Self::RangeIgnored => {
                // The file's other bytes are not at hand here: zeros stand for them.
                let from = usize::try_from(request.range_from.unwrap_or(0)).unwrap_or(0);
                let mut whole = vec![0; from];
                whole.append(&mut reply.body.bytes);
                (reply.status, reply.body.bytes) = (200, whole);
                stream.write_all(&everything(&reply))
            }
            Self::OtherRange | Self::LyingRange => {
                let lies = matches!(self, Self::LyingRange);
                reply.body.bytes.rotate_left(1.min(length));
                let reply = match lies {
                    true => reply,
                    false => reply.header("Content-Range", "bytes 0-6/7"),
                };
                stream.write_all(&everything(&reply))
            }
            Self::Drip => {
                stream.write_all(&reply.head(Some(length)))?;
                for byte in reply.body.bytes {
                    stream.write_all(&[byte])?;
                    stream.flush()?;
                    pause(Duration::from_millis(20));
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
                Ok(())
            }
            Self::Stall => {
                stream.write_all(&reply.head(Some(length)))?;
                hold(over);
                Ok(())
            }
            Self::Silence => {
                hold(over);
                Ok(())
            }
            Self::RedirectTo(address) => {
                let reply = Reply::status(302, Value::Null).header("Location", &address);
                stream.write_all(&everything(&reply))
            }
            Self::RedirectLoop => {
                let reply = Reply::status(302, Value::Null).header("Location", &request.path);
                stream.write_all(&everything(&reply))
            }
            Self::Compressed => {
                stream.write_all(&everything(&reply.header("Content-Encoding", "gzip")))
            }
            Self::NoLength(at) => {
                stream.write_all(&reply.head(None))?;
                stream.write_all(&reply.body.bytes[..at.min(length)])
            }
            Self::Endless => {
                stream.write_all(&reply.header("Transfer-Encoding", "chunked").head(None))?;
                let chunk = [b"10000\r\n".to_vec(), vec![7; 0x10000], b"\r\n".to_vec()].concat();
                while !over.load(Ordering::Relaxed) {
                    stream.write_all(&chunk)?;
                }
                Ok(())
            }
            Self::BrokenChunks => {
                let head = reply.clone().header("Transfer-Encoding", "chunked").head(None);
                stream.write_all(&head)?;
                stream.write_all(b"fffffffffffffffff\r\n")?;
                stream.write_all(&reply.body.bytes)
            }
            Self::Garbage => stream.write_all(b"\x00\x01\x02 this is no HTTP \xff\r\n\r\n"),
            Self::EndlessHead => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
                while !over.load(Ordering::Relaxed) {
                    stream.write_all(b"X-More: and more and more and more and more\r\n")?;
                }
                Ok(())
            }
            Self::HostileHeaders => {
                let evil = "../../../../evil";
                let reply = reply
                    .header("ETag", &format!("\"{evil}\""))
                    .header("X-Linked-ETag", evil)
                    .header("Content-Disposition", &format!("attachment; filename=\"{evil}\""));
                stream.write_all(&everything(&reply))
            }
            Self::OtherCommit => {
                let other = "0123456789012345678901234567890123456789";
                stream.write_all(&everything(&reply.header("X-Repo-Commit", other)))
            }
            Self::List(changes) => {
                let mut list: Value =
                    serde_json::from_slice(&reply.body.bytes).unwrap_or(Value::Null);
                for (pointer, value) in changes {
                    if let Some(place) = list.pointer_mut(&pointer) {
                        *place = value;
                    }
                }
                stream.write_all(&everything(&Reply::json(&list)))
            }
        }
    }
}

/// Keeps the connection, says nothing.
fn hold(over: &AtomicBool) {
    for _ in 0..500 {
        if over.load(Ordering::Relaxed) {
            return;
        }
        pause(Duration::from_millis(20));
    }
}
