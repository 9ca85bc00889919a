//! The model library: verified downloads, the shared cache, and what is installed.

pub mod atomic_file;
