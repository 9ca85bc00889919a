//! Which modules an adapter changes, by the rules of PEFT: a list of names, a regular expression of
//! the whole path, or all linear layers but the head.

use regex::Regex;

use crate::{
    LoraError, Result,
    modules::{EMBED, HEAD, Module},
};

/// Most bytes that a compiled pattern may take: patterns come from untrusted files.
const PATTERN_LIMIT: usize = 1 << 20;

/// A choice of modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// Every linear layer but the head.
    AllLinear,
    /// Modules whose path is one of these, or ends with a dot and one of these.
    Names(Vec<String>),
    /// Modules whose whole path matches.
    Pattern(String),
}

/// Modules that are left out, and layers that are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excluded {
    /// Modules left out.
    pub modules: Option<Targets>,
    /// Layers kept, where not all are.
    pub layers: Option<Vec<usize>>,
}

impl Targets {
    /// What a user typed: `all-linear`, names with commas between, or a pattern.
    pub fn parse(text: &str) -> Self {
        let is_name =
            |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '.' | '-' | ',' | ' ');
        match text.trim() {
            "all-linear" => Self::AllLinear,
            text if text.chars().all(is_name) => {
                let names = text.split(',').map(str::trim).filter(|it| !it.is_empty());
                Self::Names(names.map(str::to_string).collect())
            }
            text => Self::Pattern(text.to_string()),
        }
    }

    /// Whether `path` is chosen.
    ///
    /// # Errors
    /// `bad-targets` for a pattern that is none.
    pub fn choose(&self, path: &str) -> Result<bool> {
        Ok(match self {
            Self::AllLinear => path != HEAD && path != EMBED,
            Self::Names(names) => names.iter().any(|it| ends_with_name(path, it)),
            Self::Pattern(pattern) => whole(pattern)?.is_match(path),
        })
    }

    /// The chosen ones of `modules`.
    ///
    /// # Errors
    /// `bad-targets` for a pattern that is none, a name that chooses nothing, or an empty choice.
    pub fn chosen<'a>(
        &self,
        modules: &'a [Module],
        left_out: &Excluded,
    ) -> Result<Vec<&'a Module>> {
        let mut chosen = Vec::new();
        for module in modules {
            let excluded = match &left_out.modules {
                Some(it) => it.choose(&module.path)?,
                None => false,
            };
            let in_layers = match (&left_out.layers, module.layer) {
                (Some(layers), Some(layer)) => layers.contains(&layer),
                (Some(_), None) => false,
                (None, _) => true,
            };
            if !excluded && in_layers && self.choose(&module.path)? {
                chosen.push(module);
            }
        }
        if let Self::Names(names) = self {
            let unknown = |name: &&String| {
                !ends_with_name(EMBED, name)
                    && !modules.iter().any(|it| ends_with_name(&it.path, name))
            };
            if let Some(name) = names.iter().find(unknown) {
                let what = format!("no linear layer of this model has the name `{name}`");
                return Err(LoraError::Targets { what });
            }
        }
        Ok(chosen)
    }
}

fn ends_with_name(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

/// The value for `path` in a table of patterns, each of which matches the end of a path from a dot
/// on (PEFT's `rank_pattern` and `alpha_pattern`); of several, the first.
///
/// # Errors
/// `bad-targets` for a pattern that is none.
pub(crate) fn by_pattern<T: Copy>(table: &[(String, T)], path: &str) -> Result<Option<T>> {
    for (pattern, value) in table {
        if whole(&format!(r"(?:.*\.)?(?:{pattern})"))?.is_match(path) {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

/// A pattern that must match all of a path.
fn whole(pattern: &str) -> Result<Regex> {
    regex::RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(PATTERN_LIMIT)
        .build()
        .map_err(|error| LoraError::Targets { what: format!("`{pattern}` is no pattern: {error}") })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_match_whole_parts_of_a_path() {
        let targets = Targets::parse("q_proj, mlp.up_proj");
        let path = |tail: &str| format!("model.layers.11.{tail}");
        assert!(targets.choose(&path("self_attn.q_proj")).unwrap());
        assert!(targets.choose(&path("mlp.up_proj")).unwrap());
        assert!(!targets.choose(&path("self_attn.aq_proj")).unwrap());
        assert!(!targets.choose(&path("gate_up_proj")).unwrap());
    }

    #[test]
    fn patterns_match_whole_paths() {
        let targets = Targets::parse(r".*layers\.[01]\.self_attn\.(q|o)_proj");
        assert!(targets.choose("model.layers.1.self_attn.q_proj").unwrap());
        assert!(!targets.choose("model.layers.1.self_attn.q_proj.x").unwrap());
        assert!(!targets.choose("model.layers.12.self_attn.q_proj").unwrap());
        assert!(Targets::Pattern("(".into()).choose("x").is_err());
        assert!(Targets::AllLinear.choose("model.layers.0.mlp.up_proj").unwrap());
        assert!(!Targets::AllLinear.choose("lm_head").unwrap());
    }

    #[test]
    fn tables_match_the_end_of_a_path() {
        let table = [("layers.1.mlp.down_proj".to_string(), 2), ("q_proj".to_string(), 8)];
        assert_eq!(by_pattern(&table, "model.layers.1.mlp.down_proj").unwrap(), Some(2));
        assert_eq!(by_pattern(&table, "model.layers.0.self_attn.q_proj").unwrap(), Some(8));
        assert_eq!(by_pattern(&table, "model.layers.0.mlp.down_proj").unwrap(), None);
    }
}
