//! From what a user calls an adapter to a loaded one.

use std::path::{Path, PathBuf};

use minicrit_critic::versions::Versions;
use minicrit_engine::model::Decoder;
use minicrit_lora::{LoraError, lora::Lora, peft, run};

use crate::{data_folder, env::Environment, errors::Failure};

/// An adapter's folder, and how much of its change is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterRef {
    /// The folder.
    pub dir: PathBuf,
    /// Factor on the change.
    pub scale: f32,
}

impl AdapterRef {
    /// What `DIR[:SCALE]` names. A folder whose own name ends like a scale is meant as it is.
    ///
    /// # Errors
    /// A scale that is no number, or zero.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let whole = || Self { dir: text.into(), scale: 1.0 };
        if Path::new(text).exists() {
            return Ok(whole());
        }
        let Some((dir, scale)) = text.rsplit_once(':') else { return Ok(whole()) };
        match scale.parse::<f32>() {
            Ok(scale) if scale.is_finite() && scale != 0.0 => Ok(Self { dir: dir.into(), scale }),
            // On Windows a path may hold a colon; elsewhere this is a scale that is none.
            Err(_) if cfg!(windows) => Ok(whole()),
            _ => {
                let message = format!("an adapter's scale must be a number other than 0: `{text}`");
                Err(Failure::usage("bad-adapter-scale", message).hint("write DIR or DIR:0.5"))
            }
        }
    }

    /// The same, where `text` may also be a name: of an adapter that was promoted, or of a folder
    /// among the adapters of the data folder.
    ///
    /// # Errors
    /// As [`AdapterRef::parse`].
    pub fn find(text: &str, environment: &Environment) -> Result<Self, Failure> {
        Ok(Self::parse(text)?.found(environment))
    }

    /// What a name without a scale means.
    pub fn named(text: &str, environment: &Environment) -> Self {
        Self { dir: text.into(), scale: 1.0 }.found(environment)
    }

    /// A plain name that is no folder here is looked for among the adapters of the data folder:
    /// the version in use of a promoted one goes first.
    #[must_use]
    pub fn found(self, environment: &Environment) -> Self {
        if self.dir.components().count() != 1 || self.dir.exists() {
            return self;
        }
        let Some(home) = data_folder::path(environment).map(|it| it.join("adapters")) else {
            return self;
        };
        let promoted = self.dir.to_str().and_then(|name| {
            let versions = Versions::open(&home, name).ok()?;
            Some(versions.path(versions.current().ok()??))
        });
        let folder = home.join(&self.dir);
        match promoted.or_else(|| folder.is_dir().then_some(folder)) {
            Some(dir) => Self { dir, ..self },
            None => self,
        }
    }

    /// Loads it for `decoder`.
    ///
    /// # Errors
    /// No adapter there; one that does not fit the model; one that changes nothing.
    pub fn load(&self, decoder: &Decoder) -> Result<Lora, LoraError> {
        let lora = peft::open(&self.dir, decoder)?;
        run::check_base(&self.dir, decoder)?;
        if lora.is_without_effect()? {
            return Err(LoraError::NoEffect { origin: self.dir.display().to_string() });
        }
        lora.scaled(self.scale)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_may_follow_a_folder() {
        let of = |text: &str| AdapterRef::parse(text).map(|it| (it.dir, it.scale));
        assert_eq!(of("a/b").unwrap(), ("a/b".into(), 1.0));
        assert_eq!(of("a/b:0.5").unwrap(), ("a/b".into(), 0.5));
        assert_eq!(of("a/b:-2").unwrap(), ("a/b".into(), -2.0));
        for text in ["a:0", "a:x", "a:inf", "a:"] {
            assert_eq!(of(text).unwrap_err().name, "bad-adapter-scale", "{text}");
        }
    }
}
