//! Not yet written.

use std::path::Path;

use super::{ModelFiles, Result};

pub(super) fn open(_path: &Path) -> Result<ModelFiles> {
    unreachable!("not yet written")
}
