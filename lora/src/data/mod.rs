//! Training data: from files that people write to token ids with a weight for each.
//!
//! The path: a record of a file > its format > rows of turns or text > [`Example`]s in a
//! [`Dataset`]. Everything that is wrong with a row is told with its file, line and column;
//! nothing is cut or dropped without being counted. This module knows tokenizers and chat
//! templates and must not know decoders, losses or optimizers.

mod error;
mod files;
mod records;

mod json;
mod problem;

mod format;
mod rows;

mod encode;
mod mask;

mod check;
mod reader;
mod report;
mod seen;
mod watch;

mod dataset;
mod example;
mod order;
mod pack;

pub use check::{Examples, Listener, Loaded, check, load};
pub use dataset::Dataset;
pub use encode::{EncodeOptions, Encoder, TRAINING_DAY};
pub use error::DataError;
pub use example::{Example, LabelledExample, PreferenceExample, SupervisedExample};
pub use files::{DataFile, Split, data_files};
pub use format::{Format, FormatCounts, Task};
pub use order::order;
pub use pack::pack;
pub use problem::{Excerpt, Problem, Rule, Severity};
pub use records::{Layout, MAX_RECORD, Record, Records};
pub use report::{FileReport, TokenCounts};
pub use seen::Seen;
pub use watch::Watch;
