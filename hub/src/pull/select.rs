//! Which files of a repository are a model: safetensors or GGUF, with their tokenizer and config.
//! Everything else is left where it is, pickled weights above all: opening one runs its code.

use crate::{Error, Result, name::RepoId};

/// Config and tokenizer files that the engine, or Python's transformers, reads.
const SMALL_FILES: [&str; 11] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "adapter_config.json",
];
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: &str = "adapter_model.safetensors";
/// Which GGUF file is meant where none is named, as llama.cpp has it.
const USUAL_GGUF: [&str; 3] = ["Q4_K_M", "Q8_0", "Q4_0"];

/// Names of the files to fetch, out of all of a repository's.
///
/// # Errors
/// `no-model`, `gguf-not-found`.
pub fn files<'a>(repo: &RepoId, names: &[&'a str], gguf_tag: Option<&str>) -> Result<Vec<&'a str>> {
    let has = |name: &str| names.contains(&name);
    let small = names.iter().copied().filter(|it| SMALL_FILES.contains(it));
    let weights: Vec<&str> = match gguf_tag {
        Some(_) => return gguf(repo, names, gguf_tag).map(|it| vec![it]),
        None if has(SINGLE) => names.iter().copied().filter(|it| *it == SINGLE).collect(),
        None if has(INDEX) => {
            names.iter().copied().filter(|it| *it == INDEX || is_shard(it)).collect()
        }
        None if has(ADAPTER) => names.iter().copied().filter(|it| *it == ADAPTER).collect(),
        None => return gguf(repo, names, None).map(|it| vec![it]),
    };
    Ok(small.chain(weights).collect())
}

/// The GGUF file that `tag` means among these names; without a tag, the only or the usual one.
///
/// # Errors
/// `gguf-not-found`; `no-model` where there is none at all.
pub fn gguf<'a>(repo: &RepoId, names: &[&'a str], tag: Option<&str>) -> Result<&'a str> {
    let all: Vec<&str> = names.iter().copied().filter(|it| is_gguf(it)).collect();
    if all.is_empty() {
        let problem = match names.iter().find(is_pickle) {
            Some(file) => format!(
                "its weights are pickled (`{file}`), and opening such a file can run any program"
            ),
            None => "it has neither safetensors nor GGUF files".to_owned(),
        };
        return Err(Error::NoModel { repo: repo.clone(), problem });
    }
    let matching =
        |tag: &str| all.iter().copied().filter(|it| has_tag(it, tag)).collect::<Vec<_>>();
    let found = match tag {
        Some(tag) => matching(tag),
        None if all.len() == 1 => all.clone(),
        None => {
            USUAL_GGUF.iter().map(|it| matching(it)).find(|it| !it.is_empty()).unwrap_or_default()
        }
    };
    let available = || all.iter().map(|it| tag_of(it)).collect();
    match found[..] {
        [file] if !is_split(file) => Ok(file),
        [file, ..] if is_split(file) => {
            let problem = format!("`{file}` is split into several files, which can't be read yet");
            Err(Error::NoModel { repo: repo.clone(), problem })
        }
        _ => Err(Error::GgufNotFound {
            repo: repo.clone(),
            wanted: tag.unwrap_or("(none named)").to_owned(),
            available: available(),
        }),
    }
}

fn is_gguf(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // The projector of a model that sees is no model.
    name.ends_with(".gguf") && !name.rsplit('/').next().is_some_and(|it| it.starts_with("mmproj"))
}

fn is_pickle(name: &&&str) -> bool {
    [".bin", ".pt", ".pth", ".ckpt", ".pkl"].iter().any(|it| name.ends_with(it))
}

/// `model-00001-of-00002.safetensors`
fn is_shard(name: &str) -> bool {
    let digits = |it: &str| it.len() == 5 && it.bytes().all(|it| it.is_ascii_digit());
    name.strip_prefix("model-")
        .and_then(|it| it.strip_suffix(".safetensors"))
        .and_then(|it| it.split_once("-of-"))
        .is_some_and(|(index, count)| digits(index) && digits(count))
}

/// `...-00001-of-00003.gguf`
fn is_split(name: &str) -> bool {
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    let mut parts = stem.rsplitn(4, '-');
    let digits = |it: Option<&str>| {
        it.is_some_and(|it| it.len() == 5 && it.bytes().all(|c| c.is_ascii_digit()))
    };
    digits(parts.next()) && parts.next() == Some("of") && digits(parts.next())
}

/// Whether the tag stands at the end of the file's name, behind a hyphen or a dot, or is its name.
fn has_tag(name: &str, tag: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let mut stem = file[..file.len() - ".gguf".len()].to_ascii_lowercase();
    if is_split(file) {
        stem.truncate(stem.len() - "-00001-of-00003".len());
    }
    let tag = tag.to_ascii_lowercase();
    let tag = tag.strip_suffix(".gguf").unwrap_or(&tag);
    stem.strip_suffix(tag).is_some_and(|it| it.is_empty() || it.ends_with(['-', '.', '_']))
}

/// What to type for a GGUF file: the last part of its name.
fn tag_of(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = &file[..file.len() - ".gguf".len()];
    stem.rsplit(['-', '.']).next().unwrap_or(stem).to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chosen(names: &[&'static str], tag: Option<&str>) -> Result<Vec<&'static str>> {
        files(&RepoId::parse("a/b").unwrap(), names, tag)
    }

    #[test]
    fn only_what_a_model_needs_is_chosen() {
        let names = [
            ".gitattributes",
            "README.md",
            "config.json",
            "model.safetensors",
            "model.fp16.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
            "modeling_evil.py",
            "onnx/model.onnx",
            "original/consolidated.00.pth",
            "consolidated.safetensors",
        ];
        let expected = ["config.json", "tokenizer.json", "model.safetensors"];
        assert_eq!(chosen(&names, None).unwrap(), expected);
    }

    #[test]
    fn shards_come_with_their_index() {
        let names = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "consolidated.safetensors",
            "model-00001-of-00002.bin",
        ];
        assert_eq!(chosen(&names, None).unwrap().len(), 4);
    }

    #[test]
    fn a_tag_chooses_a_gguf_file() {
        let names =
            ["m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-IQ4_K_M.gguf", "mmproj-f16.gguf", "README.md"];
        assert_eq!(chosen(&names, Some("q8_0")).unwrap(), ["m-Q8_0.gguf"]);
        assert_eq!(chosen(&names, Some("Q4_K_M")).unwrap(), ["m-Q4_K_M.gguf"]);
        assert_eq!(chosen(&names, None).unwrap(), ["m-Q4_K_M.gguf"]);
        assert_eq!(chosen(&["x/only.gguf"], None).unwrap(), ["x/only.gguf"]);
        let error = chosen(&names, Some("Q2_K")).unwrap_err().to_string();
        assert!(error.contains("Q4_K_M, Q8_0, IQ4_K_M"), "{error}");
        assert!(chosen(&["m-Q4_K_M-00001-of-00002.gguf"], None).is_err());
    }

    #[test]
    fn a_repository_of_pickles_has_no_model() {
        let error = chosen(&["config.json", "pytorch_model.bin"], None).unwrap_err().to_string();
        assert!(error.contains("pytorch_model.bin"), "{error}");
        assert!(chosen(&[], None).is_err());
    }
}
