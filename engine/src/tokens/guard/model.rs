//! The `model` section: the vocabulary and how it is applied.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::json::{Entries, shorten};

/// Problems of one kind are not listed beyond this many.
const MAX_LISTED: usize = 8;
const MAX_AFFIX: usize = 64;

/// A checked model.
#[derive(Debug)]
pub(in crate::tokens) enum ModelPart {
    /// Byte-pair encoding.
    Bpe(Bpe),
    /// WordPiece or WordLevel: the section, and its vocabulary.
    Words { section: Value, vocab: Vec<(String, u32)> },
    /// Unigram: the section, and its pieces in the order of ids.
    Unigram { section: Value, pieces: Vec<String> },
}

/// Byte-pair encoding with its vocabulary and its merges, best first.
#[derive(Debug, Clone)]
pub(in crate::tokens) struct Bpe {
    pub vocab: Vec<(String, u32)>,
    pub merges: Vec<(String, String)>,
    pub unk_token: Option<String>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    pub fuse_unk: bool,
    pub byte_fallback: bool,
    pub ignore_merges: bool,
}

impl ModelPart {
    /// Every piece with its id.
    pub(in crate::tokens) fn pieces(&self) -> Box<dyn Iterator<Item = (&str, u32)> + '_> {
        match self {
            ModelPart::Bpe(Bpe { vocab, .. }) | ModelPart::Words { vocab, .. } => {
                Box::new(vocab.iter().map(|(piece, id)| (piece.as_str(), *id)))
            }
            ModelPart::Unigram { pieces, .. } => {
                Box::new(pieces.iter().enumerate().map(|(id, piece)| (piece.as_str(), id as u32)))
            }
        }
    }

    /// The token for what no piece fits.
    pub(in crate::tokens) fn unk_token(&self) -> Option<&str> {
        match self {
            ModelPart::Bpe(bpe) => bpe.unk_token.as_deref(),
            ModelPart::Words { section, .. } => section.get("unk_token").and_then(Value::as_str),
            ModelPart::Unigram { section, pieces } => {
                let id = section.get("unk_id").and_then(Value::as_u64)?;
                pieces.get(usize::try_from(id).ok()?).map(String::as_str)
            }
        }
    }
}

impl Bpe {
    /// What a merge makes: the right side loses the prefix that marks inner pieces.
    pub(in crate::tokens) fn merged(&self, left: &str, right: &str) -> Option<String> {
        let prefix_len = self.continuing_subword_prefix.as_ref().map_or(0, String::len);
        Some(format!("{left}{}", right.get(prefix_len..)?))
    }
}

pub(super) fn check(
    section: &RawValue,
    vocab_size: usize,
    problems: &mut Vec<String>,
) -> Option<ModelPart> {
    let fields: Entries<&RawValue> = match serde_json::from_str(section.get()) {
        Ok(fields) => fields,
        Err(error) => {
            problems.push(format!("model: {error}"));
            return None;
        }
    };
    let fields = fields.into_map("model", problems);
    let kind: Option<String> =
        fields.get("type").and_then(|it| serde_json::from_str(it.get()).ok());
    let kind = kind.or_else(|| fields.contains_key("merges").then(|| "BPE".to_owned()));
    match kind.as_deref() {
        Some("BPE") => bpe(&fields, vocab_size, problems).map(ModelPart::Bpe),
        Some("WordPiece" | "WordLevel") => words(section, &fields, vocab_size, problems),
        Some("Unigram") => unigram(section, &fields, vocab_size, problems),
        Some(other) => {
            problems.push(format!("model type `{}` is not known", shorten(other)));
            None
        }
        None => {
            problems.push("model has no type".into());
            None
        }
    }
}

type Fields<'a> = HashMap<String, &'a RawValue>;

/// A field that may be absent or null.
fn field<'a, T: Deserialize<'a>>(
    fields: &Fields<'a>,
    name: &str,
    problems: &mut Vec<String>,
) -> Option<T> {
    match serde_json::from_str::<Option<T>>(fields.get(name)?.get()) {
        Ok(value) => value,
        Err(error) => {
            problems.push(format!("model.{name}: {error}"));
            None
        }
    }
}

fn bpe(fields: &Fields<'_>, vocab_size: usize, problems: &mut Vec<String>) -> Option<Bpe> {
    if let Some(dropout) = field::<f64>(fields, "dropout", problems)
        && dropout != 0.0
    {
        problems.push(format!(
            "model.dropout is {dropout}: the same text would give other ids each time"
        ));
    }
    let bpe = Bpe {
        vocab: vocab(fields, vocab_size, problems)?,
        merges: merges(fields, problems)?,
        unk_token: field(fields, "unk_token", problems),
        continuing_subword_prefix: field(fields, "continuing_subword_prefix", problems),
        end_of_word_suffix: field(fields, "end_of_word_suffix", problems),
        fuse_unk: field(fields, "fuse_unk", problems).unwrap_or(false),
        byte_fallback: field(fields, "byte_fallback", problems).unwrap_or(false),
        ignore_merges: field(fields, "ignore_merges", problems).unwrap_or(false),
    };
    check_affix("continuing_subword_prefix", bpe.continuing_subword_prefix.as_deref(), problems);
    check_affix("end_of_word_suffix", bpe.end_of_word_suffix.as_deref(), problems);
    let known: HashSet<&str> = bpe.vocab.iter().map(|it| it.0.as_str()).collect();
    if let Some(unk) = &bpe.unk_token
        && !known.contains(unk.as_str())
    {
        problems.push(format!("unk_token `{}` is not in the vocabulary", shorten(unk)));
    }
    check_merges(&bpe, &known, problems);
    Some(bpe)
}

/// A merge's parts and its result must be pieces. The result is built by cutting the prefix's
/// length off the right side; a cut inside a character is undefined behaviour in the crate.
fn check_merges(bpe: &Bpe, known: &HashSet<&str>, problems: &mut Vec<String>) {
    let mut bad = Listed::new("merges", problems);
    for (rank, (left, right)) in bpe.merges.iter().enumerate() {
        let parts = format!("merge {rank} (`{}` + `{}`)", shorten(left), shorten(right));
        let Some(merged) = bpe.merged(left, right) else {
            bad.push(format!("{parts} can't be cut after the subword prefix"));
            continue;
        };
        for piece in [left.as_str(), right.as_str(), merged.as_str()] {
            if !known.contains(piece) {
                bad.push(format!("{parts}: `{}` is not in the vocabulary", shorten(piece)));
                break;
            }
        }
    }
    bad.finish();
}

fn check_affix(name: &str, affix: Option<&str>, problems: &mut Vec<String>) {
    if let Some(affix) = affix
        && affix.len() > MAX_AFFIX
    {
        problems.push(format!("{name} has {} bytes, more than {MAX_AFFIX}", affix.len()));
    }
}

fn vocab(
    fields: &Fields<'_>,
    vocab_size: usize,
    problems: &mut Vec<String>,
) -> Option<Vec<(String, u32)>> {
    let Some(section) = fields.get("vocab") else {
        problems.push("model has no vocab".into());
        return None;
    };
    let entries: Entries<u32> = match serde_json::from_str(section.get()) {
        Ok(entries) => entries,
        Err(error) => {
            problems.push(format!("model.vocab: {error}"));
            return None;
        }
    };
    if entries.0.is_empty() {
        problems.push("model.vocab is empty".into());
    }
    let mut bad = Listed::new("vocabulary entries", problems);
    let mut pieces = HashSet::with_capacity(entries.0.len());
    let mut ids = HashMap::with_capacity(entries.0.len());
    for (piece, id) in &entries.0 {
        if !pieces.insert(piece.as_str()) {
            bad.push(format!("`{}` occurs twice in the vocabulary", shorten(piece)));
        } else if let Some(other) = ids.insert(*id, piece.as_str()) {
            bad.push(format!("`{}` and `{}` share id {id}", shorten(other), shorten(piece)));
        }
        if *id as usize >= vocab_size {
            bad.push(format!(
                "`{}` has id {id}, but the model has {vocab_size} ids",
                shorten(piece)
            ));
        }
    }
    bad.finish();
    drop((pieces, ids));
    Some(entries.0)
}

fn merges(fields: &Fields<'_>, problems: &mut Vec<String>) -> Option<Vec<(String, String)>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Merges {
        Pairs(Vec<(String, String)>),
        Lines(Vec<String>),
    }
    let Some(section) = fields.get("merges") else {
        problems.push("model has no merges".into());
        return None;
    };
    match serde_json::from_str(section.get()) {
        Ok(Merges::Pairs(pairs)) => Some(pairs),
        Ok(Merges::Lines(lines)) => {
            let mut bad = Listed::new("merges", problems);
            let mut pairs = Vec::with_capacity(lines.len());
            for (rank, line) in lines.iter().enumerate().filter(|it| !it.1.starts_with("#version"))
            {
                match line.split_once(' ') {
                    Some((left, right)) if !right.contains(' ') => {
                        pairs.push((left.to_owned(), right.to_owned()))
                    }
                    _ => bad.push(format!("merge {rank} (`{}`) is not two pieces", shorten(line))),
                }
            }
            bad.finish();
            Some(pairs)
        }
        Err(_) => {
            problems.push("model.merges is no list of pairs".into());
            None
        }
    }
}

fn words(
    section: &RawValue,
    fields: &Fields<'_>,
    vocab_size: usize,
    problems: &mut Vec<String>,
) -> Option<ModelPart> {
    let vocab = vocab(fields, vocab_size, problems)?;
    let unk: String = field(fields, "unk_token", problems).unwrap_or_else(|| "[UNK]".to_owned());
    if !vocab.iter().any(|it| it.0 == unk) {
        problems.push(format!("unk_token `{}` is not in the vocabulary", shorten(&unk)));
    }
    let prefix: Option<String> = field(fields, "continuing_subword_prefix", problems);
    check_affix("continuing_subword_prefix", prefix.as_deref(), problems);
    let section = value(section, problems)?;
    Some(ModelPart::Words { section, vocab })
}

fn unigram(
    section: &RawValue,
    fields: &Fields<'_>,
    vocab_size: usize,
    problems: &mut Vec<String>,
) -> Option<ModelPart> {
    let vocab: Vec<(String, f64)> = field(fields, "vocab", problems)?;
    let mut bad = Listed::new("vocabulary entries", problems);
    let mut seen = HashSet::with_capacity(vocab.len());
    for (id, (piece, score)) in vocab.iter().enumerate() {
        if piece.is_empty() || !seen.insert(piece.as_str()) {
            bad.push(format!("piece {id} (`{}`) is empty or occurs twice", shorten(piece)));
        }
        if !score.is_finite() {
            bad.push(format!("the score of `{}` is {score}", shorten(piece)));
        }
    }
    bad.finish();
    if vocab.is_empty() {
        problems.push("model.vocab is empty".into());
    }
    if vocab.len() > vocab_size {
        problems.push(format!(
            "the vocabulary has {} pieces, but the model has {vocab_size} ids",
            vocab.len()
        ));
    }
    match field::<u64>(fields, "unk_id", problems) {
        Some(id) if id >= vocab.len() as u64 => {
            problems.push(format!("unk_id {id} is outside the vocabulary"))
        }
        Some(_) => {}
        None => problems.push("model has no unk_id".into()),
    }
    let section = value(section, problems)?;
    Some(ModelPart::Unigram { section, pieces: vocab.into_iter().map(|it| it.0).collect() })
}

fn value(section: &RawValue, problems: &mut Vec<String>) -> Option<Value> {
    serde_json::from_str(section.get())
        .map_err(|error| problems.push(format!("model: {error}")))
        .ok()
}

/// Problems of one kind: the first few in words, the rest as a count.
struct Listed<'a> {
    what: &'static str,
    problems: &'a mut Vec<String>,
    count: usize,
}

impl<'a> Listed<'a> {
    fn new(what: &'static str, problems: &'a mut Vec<String>) -> Self {
        Self { what, problems, count: 0 }
    }

    fn push(&mut self, problem: String) {
        self.count += 1;
        if self.count <= MAX_LISTED {
            self.problems.push(problem);
        }
    }

    fn finish(self) {
        if self.count > MAX_LISTED {
            self.problems.push(format!("{} more bad {}", self.count - MAX_LISTED, self.what));
        }
    }
}
