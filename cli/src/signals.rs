//! Ctrl-C, and the signal of a mapped file that shrank.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

use crate::errors::exit;

/// An answer is being made, which a first Ctrl-C stops politely.
static ANSWERING: AtomicBool = AtomicBool::new(false);
/// Ctrl-C came while answering.
static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Installs the handlers. Called once, before any thread is started.
pub fn install() {
    LazyLock::force(&INTERRUPTED);
    // Without a handler Ctrl-C still ends the program, only less politely.
    let _ = ctrlc::set_handler(|| {
        let polite = ANSWERING.load(Ordering::SeqCst);
        if !polite || INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
    });
    #[cfg(unix)]
    install_bus_error();
}

/// Set by the first Ctrl-C of an answer; what a long prefill watches.
pub fn interruption() -> Arc<AtomicBool> {
    Arc::clone(&INTERRUPTED)
}

/// The time in which Ctrl-C stops the answer and not the program.
#[derive(Debug)]
pub struct Answering(());

impl Answering {
    /// Begins it.
    pub fn begin() -> Self {
        INTERRUPTED.store(false, Ordering::SeqCst);
        ANSWERING.store(true, Ordering::SeqCst);
        Self(())
    }

    /// Whether Ctrl-C came since then.
    pub fn interrupted(&self) -> bool {
        INTERRUPTED.load(Ordering::SeqCst)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        ANSWERING.store(false, Ordering::SeqCst);
    }
}

/// Reading a mapped page beyond the end of a file that was cut raises SIGBUS. There is no way back
/// into the arithmetic, but there is a way to say what happened.
#[cfg(unix)]
fn install_bus_error() {
    // SAFETY: `action` is a plain C struct for which all zeros is a valid value (no flags, empty
    // mask); the handler calls async-signal-safe functions alone.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

#[cfg(unix)]
extern "C" fn on_bus_error(_signal: libc::c_int) {
    const MESSAGE: &[u8] = b"error[model-file-changed]: a model file was cut or replaced in place while it was in use\n\
        hint: run the command again; replace model files by renaming a new file over them\n";
    // SAFETY: `write` and `_exit` are async-signal-safe (POSIX), and the buffer is a constant.
    unsafe {
        libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
        libc::_exit(i32::from(exit::FAILED));
    }
}
