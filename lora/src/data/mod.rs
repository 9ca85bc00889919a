//! Training data: from files that people write to token ids with a weight for each.
//!
//! The path: a line of a file > its format > a row of messages or text > [`Example`]s in a
//! [`Dataset`]. Everything that is wrong with a row is told with its file, line and column;
//! nothing is cut or dropped without being counted. This module knows tokenizers and chat
//! templates and must not know decoders, losses or optimizers.

mod dataset;
mod example;
mod order;

pub use dataset::Dataset;
pub use example::{Example, LabelledExample, PreferenceExample, SupervisedExample};
pub use order::order;
