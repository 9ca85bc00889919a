//! A verdict on a rationale, out of the exact probabilities of the labels.

pub mod backend;
mod critic;
mod endpoint;
mod local;
pub mod profile;
mod prompt;

pub use backend::{Backend, Sampling};
pub use critic::{Critic, Critique, Explanation};
pub use endpoint::{Endpoint, EndpointSettings};
pub use local::LocalBackend;
pub use profile::Profile;
pub use prompt::{Prompt, PromptStyle};
