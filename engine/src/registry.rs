//! The models that can be asked for by name: models.toml, read strictly.
//!
//! A list of facts about repositories. It must not know how a model is fetched, loaded or run, and
//! it never touches a file: the copy of models.toml is part of the program.
//!
//! ```
//! use minicrit_engine::registry::Registry;
//! let registry = Registry::embedded();
//! assert_eq!(registry.default_entry().name, "nano");
//! assert_eq!(registry.suggestions("qwen2.5:0.6b")[0], "qwen2.5:0.5b");
//! ```

mod entry;
mod error;
mod read;
mod suggest;

use std::sync::OnceLock;

pub use entry::{Architecture, Entry, MemoryShape, Specialty, StoredType};
pub use error::{RegistryError, RegistryProblem};

const MODELS_TOML: &str = include_str!("../../models.toml");

/// A list of models with unique names, one of which is the default.
#[derive(Debug, Clone, PartialEq)]
pub struct Registry {
    entries: Vec<Entry>,
    /// Position of the default in `entries`.
    default: usize,
}

impl Registry {
    /// The registry that is part of the program.
    pub fn embedded() -> &'static Registry {
        static EMBEDDED: OnceLock<Registry> = OnceLock::new();
        EMBEDDED.get_or_init(|| {
            Self::parse(MODELS_TOML).expect("invariant: a test reads the embedded models.toml")
        })
    }

    /// Reads a registry.
    ///
    /// # Errors
    /// [`RegistryError`] with every problem of the text and its line.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let (entries, default) = read::read(text, None)?;
        Ok(Self { entries, default })
    }

    /// This registry with the entries of another text behind its own. Names must not be taken; the
    /// text may name another default.
    ///
    /// # Errors
    /// [`RegistryError`] with every problem of the text and its line.
    pub fn extended(&self, text: &str) -> Result<Self, RegistryError> {
        let (entries, default) = read::read(text, Some(self))?;
        Ok(Self { entries, default })
    }

    /// Every model, in the order of the file.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The model that is meant where none is named.
    pub fn default_entry(&self) -> &Entry {
        &self.entries[self.default]
    }

    /// The model of this name, alias or repository. Upper and lower case are the same.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|it| it.is_called(name))
    }

    /// Names like `name`, the nearest first, three at most: for "did you mean".
    pub fn suggestions(&self, name: &str) -> Vec<&str> {
        suggest::nearest(name, &self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_registry_is_well_formed() {
        let registry = Registry::parse(MODELS_TOML).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(&registry, Registry::embedded());
        assert!(registry.default_entry().is_builtin());
        assert!(registry.entries().len() >= 12);
    }

    #[test]
    fn names_aliases_and_repositories_find_the_same_entry() {
        let registry = Registry::embedded();
        for name in ["qwen2.5:0.5b", "QWEN-small", "qwen/qwen2.5-0.5b-instruct"] {
            let entry = registry.find(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(entry.repo, "Qwen/Qwen2.5-0.5B-Instruct");
        }
        assert_eq!(registry.find("qwen2.5"), None);
        assert_eq!(registry.find(""), None);
    }

    #[test]
    fn own_entries_stand_behind_the_built_in_ones() {
        let own = "schema_version = 1\ndefault = \"mine\"\n[[model]]\nname = \"mine\"\n\
                   title = \"Mine\"\ndescription = \"Mine.\"\nrepo = \"me/mine\"\n\
                   architecture = \"llama\"\nlicense = \"MIT\"\ndraft_for = [\"qwen2.5:1.5b\"]\n";
        let registry = Registry::embedded().extended(own).unwrap_or_else(|it| panic!("{it}"));
        assert_eq!(registry.default_entry().name, "mine");
        assert_eq!(registry.entries().len(), Registry::embedded().entries().len() + 1);
        let empty = Registry::embedded().extended("schema_version = 1\n");
        assert_eq!(empty.map_err(|it| it.to_string()).as_ref(), Ok(Registry::embedded()));
        let taken = Registry::embedded().extended(&own.replace("\"mine\"", "\"nano\""));
        let error = taken.err().map(|it| it.to_string()).unwrap_or_default();
        assert!(error.contains("line 3: `nano`: the name `nano` is taken by `nano`"), "{error}");
    }

    /// The weights that a shape implies at the least: embeddings and attention's key and value rows
    /// alone can't be more than all parameters.
    #[test]
    fn parameter_counts_fit_the_shapes() {
        for entry in Registry::embedded().entries() {
            let (Some(params), Some(memory)) = (entry.params, entry.memory) else { continue };
            let attention = 2 * memory.layers * memory.kv_heads * memory.head_dim * memory.hidden;
            assert!(memory.vocab * memory.hidden + attention < params, "{}", entry.name);
        }
    }
}
