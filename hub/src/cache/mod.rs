//! The cache of a user's models, in the layout of Python's huggingface_hub, so that files fetched
//! by one are found by the other:
//!
//! ```text
//! models--org--name/blobs/DIGEST                     the bytes, under their digest
//! models--org--name/snapshots/COMMIT/config.json     a link to ../../blobs/DIGEST
//! models--org--name/refs/main                        the commit that a branch had
//! .locks/models--org--name/DIGEST.lock               held while a blob is fetched
//! ```

mod layout;
mod lookup;

pub use layout::RepoCache;
pub(crate) use layout::sync_folder;
pub use lookup::{Found, find};

/// What is not a whole blob yet. Another name than Python's `.incomplete`, which some versions of
/// it complete without a check.
pub(crate) const PART: &str = "minicrit-part";
