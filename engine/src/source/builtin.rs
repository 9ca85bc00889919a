//! The model that is part of the program.

use super::{ModelFiles, Result};

pub(super) fn open() -> Result<ModelFiles> {
    unreachable!("not yet written")
}
