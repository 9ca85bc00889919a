//! What belongs to a trained critic besides its weights: how it is asked, and its calibration.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::PromptStyle;
use crate::{Error, Result, eval::Calibration};

/// The file of a profile, in the folder of an adapter or model.
pub const FILE: &str = "critic.json";

/// How a critic is asked, and how its log-odds become probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Name of a [`PromptStyle`].
    pub prompt: String,
    /// Fit of the confidence.
    #[serde(default)]
    pub calibration: Calibration,
    /// Name of the suite that it was fitted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitted_on: Option<String>,
    /// Number of cases that it was fitted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cases: Option<usize>,
}

impl Profile {
    /// The profile of the model that is part of the program.
    pub fn builtin() -> Self {
        let text = include_str!("../../../models/critic/critic.json");
        Self::parse(Path::new("built-in model"), text)
            .expect("invariant: a test reads the built-in profile")
    }

    /// The profile in `folder`, if there is one.
    ///
    /// # Errors
    /// [`Error::BadProfile`]; [`Error::File`] for one that can't be read.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::File { path, source }),
        };
        Self::parse(&path, &text).map(Some)
    }

    /// The profile in `text`, which came from `path`.
    fn parse(path: &Path, text: &str) -> Result<Self> {
        let bad = |what: String| Error::BadProfile { path: path.to_path_buf(), what };
        let profile: Self = serde_json::from_str(text).map_err(|it| bad(it.to_string()))?;
        profile.style().map_err(|it| bad(it.to_string()))?;
        let Calibration { slope, intercept } = profile.calibration;
        if !slope.is_finite() || slope <= 0.0 || !intercept.is_finite() {
            return Err(bad(format!("slope {slope} and intercept {intercept} are no calibration")));
        }
        Ok(profile)
    }

    /// How the critic is asked.
    ///
    /// # Errors
    /// An unknown name.
    pub fn style(&self) -> Result<PromptStyle> {
        PromptStyle::parse(&self.prompt)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_strictly() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Profile::read(dir.path()).unwrap(), None);
        assert_eq!(Profile::builtin().prompt, "rationale");
        let with = |text: &str| {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            Profile::read(dir.path())
        };
        let good = with("{\"prompt\": \"rationale\"}").unwrap().unwrap();
        assert_eq!(good.calibration, Calibration::default());
        for bad in [
            "{",
            "{\"prompt\": \"shout\"}",
            "{\"prompt\": \"rationale\", \"calibration\": {\"slope\": -1.0, \"intercept\": 0.0}}",
            "{\"prompt\": \"rationale\", \"slope\": 1.0}",
        ] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }
}
