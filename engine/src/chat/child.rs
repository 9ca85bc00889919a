//! Rendering in a process of its own: a template can use up that process's memory and time, not
//! ours. A failed allocation ends a Rust program, so nothing less than a process will do.

use std::{
    io::{self, Read, Write},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    ChatError, Rendered,
    environment::{MAX_OUTPUT, shorten},
    template::Request,
};

/// Address space that a render may take beyond what the program has.
const MEMORY_BYTES: u64 = 512 << 20;
/// Processor time of a render.
const CPU_SECONDS: u64 = 2;
/// What the parent waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// JSON takes up to six bytes for one.
const MAX_REPLY: u64 = 6 * MAX_OUTPUT as u64 + 65_536;
/// A conversation longer than this is no conversation.
const MAX_REQUEST: u64 = 256 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    Rendered(Rendered),
    Invalid { what: String, line: Option<usize> },
    Refused(String),
    TooCostly(String),
}

impl From<Result<Rendered, ChatError>> for Reply {
    fn from(result: Result<Rendered, ChatError>) -> Self {
        match result {
            Ok(rendered) => Reply::Rendered(rendered),
            Err(ChatError::Invalid { what, line }) => Reply::Invalid { what, line },
            Err(ChatError::Refused(message)) => Reply::Refused(message),
            Err(ChatError::TooCostly(what)) => Reply::TooCostly(what),
            Err(other) => Reply::Invalid { what: other.to_string(), line: None },
        }
    }
}

/// The child's side: bounds this process, reads one request, writes one reply. The program should
/// do nothing else before and after, and should end with success.
///
/// # Errors
/// When the streams fail, or the limits can't be set (then nothing is rendered).
pub fn render_child(mut input: impl Read, mut output: impl Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    input.by_ref().take(MAX_REQUEST).read_to_end(&mut bytes)?;
    #[cfg(unix)]
    super::limits::bound_this_process(MEMORY_BYTES, CPU_SECONDS)?;
    let request: Request = serde_json::from_slice(&bytes)?;
    drop(bytes);
    let reply = Reply::from(request.render());
    serde_json::to_writer(&mut output, &reply)?;
    output.flush()
}

/// The parent's side.
pub(super) fn render(program: &Path, request: &Request) -> Result<Rendered, ChatError> {
    let failed = |error: io::Error| ChatError::Renderer(format!("{}: {error}", program.display()));
    let bytes =
        serde_json::to_vec(request).map_err(|error| ChatError::Messages(error.to_string()))?;
    let mut child = Command::new(program)
        .arg("render-template")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let reply = talk(&mut child, bytes);
    if reply.is_none() {
        // It may have ended by itself in the meantime.
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    let Some(reply) = reply else {
        return Err(ChatError::TooCostly(format!(
            "no answer within {} seconds",
            PATIENCE.as_secs()
        )));
    };
    if !status.success() {
        return Err(died(status));
    }
    match serde_json::from_slice(&reply) {
        Ok(Reply::Rendered(rendered)) if rendered.is_sound() => Ok(rendered),
        Ok(Reply::Rendered(_)) => Err(ChatError::Renderer("its answer makes no sense".into())),
        Ok(Reply::Invalid { what, line }) => Err(ChatError::Invalid { what, line }),
        Ok(Reply::Refused(message)) => Err(ChatError::Refused(message)),
        Ok(Reply::TooCostly(what)) => Err(ChatError::TooCostly(what)),
        Err(error) => {
            Err(ChatError::Renderer(shorten(&format!("its answer can't be read: {error}"))))
        }
    }
}

/// Sends the request and waits for the end of the answer; nothing if that takes too long.
fn talk(child: &mut Child, request: Vec<u8>) -> Option<Vec<u8>> {
    let mut input = child.stdin.take()?;
    let output = child.stdout.take()?;
    // A child that dies early closes the pipe; what it wrote before counts, not this error.
    thread::spawn(move || drop(input.write_all(&request)));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reply = Vec::new();
        let read = output.take(MAX_REPLY).read_to_end(&mut reply);
        // The receiver is gone when the parent lost its patience.
        drop(sender.send(read.map(|_| reply)));
    });
    receiver.recv_timeout(PATIENCE).ok()?.ok()
}

#[cfg(unix)]
fn died(status: ExitStatus) -> ChatError {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(libc::SIGXCPU | libc::SIGKILL) => {
            ChatError::TooCostly(format!("more than {CPU_SECONDS} seconds of processor time"))
        }
        Some(libc::SIGABRT) => {
            ChatError::TooCostly(format!("more than {} MiB of memory", MEMORY_BYTES >> 20))
        }
        Some(_) => ChatError::TooCostly("it used up the stack".into()),
        None => ChatError::Renderer(format!("it ended with {status}")),
    }
}

#[cfg(not(unix))]
fn died(status: ExitStatus) -> ChatError {
    ChatError::TooCostly(format!("the renderer ended with {status}"))
}
