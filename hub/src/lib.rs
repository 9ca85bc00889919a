//! The model library: verified downloads from a hub, the cache they live in, what is installed.
//!
//! Top to bottom: a [`reference::Reference`] names a repository; [`cache`] says where its files lie
//! on this machine (in the layout of Python's huggingface_hub); [`pull()`] brings what is missing.
//! [`kept`] holds rounded models for the next start, [`created`] models of one's own, [`state`] what
//! files can't say, [`audit`] what was done.
//! Everything that a server says is untrusted: names pass [`name::SafeName`], bytes pass a digest.
//!
//! This crate prints nothing and reads no environment: [`settings::HubSettings`] says it all. Only
//! [`pull()`] opens connections.

pub mod atomic_file;
pub mod audit;
pub mod cache;
pub mod created;
mod error;
pub mod kept;
pub mod modelfile;
pub mod name;
pub mod pull;
pub mod reference;
pub mod settings;
pub mod state;
mod wire;

pub use error::Error;
pub use pull::pull;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
