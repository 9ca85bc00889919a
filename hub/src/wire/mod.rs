//! HTTP as far as a hub needs it: one GET at a time, redirects under rules, every wait bounded.

mod address;
mod client;
mod pace;
mod tries;

pub use client::{Answer, Client};
pub use pace::Pace;
pub use tries::{Stop, Tries, Trouble};
