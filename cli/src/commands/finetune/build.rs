//! From settings to what is trained on what.

use std::{path::Path, sync::Arc};

use minicrit_engine::{
    arch,
    load::{LoadOptions, load_decoder_with},
    model::Decoder,
    recipe::Mix,
    source::ModelFiles,
};
use minicrit_hub::atomic_file::{self, Readers};
use minicrit_lora::{
    data::{
        self, Dataset, EncodeOptions, Encoder, Example, Examples, Listener, Problem, Severity,
        Split,
    },
    fingerprint::fingerprint,
    lora::Lora,
    peft,
    run::{Form, Identity, check_base},
    trainer::{Learner, ReferenceLogProbs, TrainingData},
    weights,
};

use crate::{
    errors::{self, Failure},
    memory, model, printer,
    settings::{FinetuneSettings, Layers, Trained},
    training_data,
};

/// Longest sequence where the user names none.
const DEFAULT_SEQ_LEN: usize = 2048;

/// Everything but the course of the training.
pub struct Built {
    /// The model and what of it is trained.
    pub learner: Learner,
    /// Examples.
    pub data: TrainingData,
    /// Examples to evaluate on.
    pub valid: Option<TrainingData>,
    /// Units of the order: single examples, or packs.
    pub units: Vec<Vec<usize>>,
    /// What is written.
    pub form: Form,
    /// What the run is made of.
    pub identity: Identity,
    /// What the user should know before it begins.
    pub notes: Vec<String>,
    /// Bytes of the frozen weights.
    pub weight_bytes: u64,
    /// The files, for the tokenizer.
    pub files: ModelFiles,
}

/// Builds it.
///
/// # Errors
/// Those of model, data and adapter.
pub fn build(settings: &FinetuneSettings) -> anyhow::Result<Built> {
    let _progress = printer::Progress::start("reading model and data".into());
    let mut files = settings.model.files()?;
    if let Trained::Scratch { config: Some(path) } = &settings.trained {
        let text = std::fs::read(path).map_err(|it| errors::file("read", path, &it))?;
        files.config = serde_json::from_slice(&text).map_err(|it| {
            Failure::failed("bad-config", format!("`{}` is no JSON: {it}", path.display()))
        })?;
    }
    let spec = arch::spec_from_config(&files.config)?;
    let most = spec.max_tokens().min(DEFAULT_SEQ_LEN);
    let max_seq_len = settings.max_seq_len.unwrap_or(most);
    if max_seq_len > spec.max_tokens() {
        let message = format!(
            "this model's context has {} tokens: `--max-seq-len {max_seq_len}`",
            spec.max_tokens()
        );
        return Err(Failure::usage("context-too-long", message).into());
    }
    let options = EncodeOptions { max_seq_len, ..EncodeOptions::default() };
    let encoder = training_data::encoder(&files, &settings.model.label(), options)?;
    let mut notes = Vec::new();
    let (data, valid) = load_data(settings, &encoder, &mut notes)?;
    let mut identity = Identity::default();
    identity.set("base", base_name(settings));
    identity.set("method", method_name(settings));
    identity.set("seed", settings.seed);
    identity.set("version", env!("CARGO_PKG_VERSION"));
    identity.set("data", data.content_hash().to_hex());
    identity.set(
        "valid",
        valid.as_ref().map_or("-".into(), |it| it.content_hash().to_hex().to_string()),
    );
    identity.set("config", blake3::hash(files.config.to_string().as_bytes()).to_hex());
    let hash = |bytes: Option<&[u8]>| {
        bytes.map_or("-".to_string(), |it| blake3::hash(it).to_hex().to_string())
    };
    identity.set("tokenizer", hash(files.tokenizer.as_deref()));
    identity.set("template", hash(files.chat_template.as_ref().map(|it| it.as_bytes())));
    let (learner, form, weight_bytes) = learner(settings, &files, &mut identity)?;
    let units = match settings.packing {
        true => packs(&data, max_seq_len),
        false => (0..data.len()).map(|it| vec![it]).collect(),
    };
    Ok(Built { learner, data, valid, units, form, identity, notes, weight_bytes, files })
}

/// What the base is called in the result: never a path.
fn base_name(settings: &FinetuneSettings) -> String {
    let label = settings.model.label();
    let name = Path::new(&label).file_name().map(|it| it.to_string_lossy().into_owned());
    match settings.model {
        model::ModelRef::Path(_) => name.unwrap_or(label),
        _ => label,
    }
}

fn method_name(settings: &FinetuneSettings) -> String {
    use minicrit_lora::{losses::PairLoss, trainer::Method};
    match settings.method {
        Method::Sft if settings.rejection.is_some() => "rsf",
        Method::Sft => "sft",
        Method::Pairs(PairLoss::Orpo { .. }) => "orpo",
        Method::Pairs(PairLoss::SimPo { .. }) => "simpo",
        Method::Pairs(_) => "dpo",
        Method::Kto(_) => "kto",
    }
    .into()
}

fn load_data(
    settings: &FinetuneSettings,
    encoder: &Encoder,
    notes: &mut Vec<String>,
) -> anyhow::Result<(TrainingData, Option<TrainingData>)> {
    let mut problem = |path: &Path, it: &Problem| {
        let severity = match it.severity {
            Severity::Error => "error",
            _ => "warning",
        };
        let place = format!("{}:{}:{}", path.display(), it.line, it.column);
        printer::note(&format!("{severity}[{}]: {}: {place}", it.rule.name(), it.what));
    };
    let mut listener = Listener { problem: &mut problem, rejected: None };
    let loaded =
        data::load(&settings.files, encoder, settings.task, settings.skip_invalid, &mut listener)?;
    let (mut train, mut valid) = (None, None);
    for it in loaded {
        let report = &it.report;
        let format = report.format.map_or("-".into(), |it| it.to_string());
        notes.push(format!(
            "{}: {} rows of {format}, {} used, {} rejected",
            report.path.display(),
            report.read,
            report.used,
            report.rejected
        ));
        let slot = if report.split == Split::Train { &mut train } else { &mut valid };
        *slot = Some(training_data_of(it.examples));
    }
    let Some(train) = train else {
        return Err(Failure::failed("no-data", "there is no file to train on").into());
    };
    if settings.valid_split > 0.0 && valid.is_none() {
        let (train, valid) = split(train, settings.valid_split, settings.seed)?;
        return Ok((train, Some(valid)));
    }
    Ok((train, valid))
}

fn training_data_of(examples: Examples) -> TrainingData {
    match examples {
        Examples::Supervised(it) => TrainingData::Supervised(it),
        Examples::Preference(it) => TrainingData::Preference(it),
        Examples::Labelled(it) => TrainingData::Labelled(it),
    }
}

/// Takes a share of the examples away, chosen by the seed.
fn split(
    data: TrainingData,
    share: f64,
    seed: u64,
) -> Result<(TrainingData, TrainingData), Failure> {
    let count = (data.len() as f64 * share).round() as usize;
    if count == 0 || count >= data.len() {
        let message = format!("{} examples can't be split: `--valid-split {share}`", data.len());
        return Err(Failure::usage("bad-setting", message).hint("pass --valid FILE"));
    }
    let mut chosen = data::order(data.len(), seed, u64::from(u32::MAX));
    chosen.truncate(count);
    fn parts<E: Example + Clone>(data: Dataset<E>, chosen: &[usize]) -> (Dataset<E>, Dataset<E>) {
        let hash = [data.content_hash()];
        let (mut rest, mut taken) = (Vec::new(), Vec::new());
        for (i, it) in data.examples().iter().enumerate() {
            if chosen.contains(&i) { taken.push(it.clone()) } else { rest.push(it.clone()) }
        }
        (Dataset::new(rest, &hash), Dataset::new(taken, &hash))
    }
    chosen.sort_unstable();
    Ok(match data {
        TrainingData::Supervised(it) => {
            let (a, b) = parts(it, &chosen);
            (TrainingData::Supervised(a), TrainingData::Supervised(b))
        }
        TrainingData::Preference(it) => {
            let (a, b) = parts(it, &chosen);
            (TrainingData::Preference(a), TrainingData::Preference(b))
        }
        TrainingData::Labelled(it) => {
            let (a, b) = parts(it, &chosen);
            (TrainingData::Labelled(a), TrainingData::Labelled(b))
        }
    })
}

/// Packs of examples that together have at most `most` tokens.
fn packs(data: &TrainingData, most: usize) -> Vec<Vec<usize>> {
    let len = |it: usize| data.sequences(&[it]).iter().map(|it| it.ids.len()).sum::<usize>();
    let mut order: Vec<usize> = (0..data.len()).collect();
    order.sort_by_key(|&it| (std::cmp::Reverse(len(it)), it));
    let mut packs: Vec<(usize, Vec<usize>)> = Vec::new();
    for it in order {
        let needed = len(it);
        let fits = packs.iter_mut().filter(|pack| pack.0 + needed <= most);
        match fits.max_by_key(|pack| pack.0) {
            Some(pack) => {
                pack.0 += needed;
                pack.1.push(it);
            }
            None => packs.push((needed, vec![it])),
        }
    }
    packs.into_iter().map(|it| it.1).collect()
}

fn learner(
    settings: &FinetuneSettings,
    files: &ModelFiles,
    identity: &mut Identity,
) -> anyhow::Result<(Learner, Form, u64)> {
    let spec = arch::spec_from_config(&files.config)?;
    let whole = |tensors| -> anyhow::Result<(Learner, Form, u64)> {
        let learner = Learner::full(spec.clone(), &tensors, settings.products)?;
        let bytes = 4 * spec.num_parameters() as u64;
        Ok((learner, Form::Model(Box::new(files.clone())), bytes))
    };
    match &settings.trained {
        Trained::Scratch { .. } => {
            identity.set("products", format!("{:?}", settings.products));
            return whole(weights::random(&spec, settings.seed)?);
        }
        Trained::Full => {
            identity.set("products", format!("{:?}", settings.products));
            identity.set("base_weights", weights::hash(files));
            return whole(weights::of_files(files, &spec)?);
        }
        Trained::Fresh { .. } | Trained::Continued { .. } => {}
    }
    memory::Needs::of(files).check(Some(1), &memory::available())?;
    identity.set("base_weights", weights::hash(files));
    let decoder = load_decoder_with(files, LoadOptions { quantize: settings.base })?;
    let decoder = Arc::new(decoder);
    identity.set("base_fingerprint", fingerprint(&decoder)?);
    identity.set("base_packed", settings.base.map_or("-", Mix::name));
    let bytes = decoder.weight_bytes() as u64;
    let (learner, mut config) = adapter(settings, &decoder, identity)?;
    let learner = learner.with_compute(settings.products)?;
    identity.set("products", format!("{:?}", settings.products));
    config.base_name = Some(base_name(settings));
    Ok((learner, Form::Adapter(Box::new(config)), bytes))
}

fn adapter(
    settings: &FinetuneSettings,
    decoder: &Arc<Decoder>,
    identity: &mut Identity,
) -> anyhow::Result<(Learner, peft::AdapterConfig)> {
    match &settings.trained {
        Trained::Continued { dir, b_rate } => {
            let mut config = peft::read_config(dir)?;
            if config.dora && settings.optimizer.dropout > 0.0 {
                let message = "DoRA with dropout is not supported: `--dropout`";
                return Err(Failure::usage("usage", message).into());
            }
            config.dropout = f64::from(settings.optimizer.dropout);
            let lora = peft::open(dir, decoder)?;
            check_base(dir, decoder)?;
            let bytes = peft::safetensors_bytes(&lora.tensors())?;
            identity.set("adapter", peft::config_json(&config).replace(['\n', ' '], ""));
            identity.set("init_adapter", blake3::hash(&bytes).to_hex());
            identity.set("lora_plus", b_rate);
            let learner = Learner::adapter(Arc::clone(decoder), lora, *b_rate)?;
            // The loss compares with the adapter as it was, not with the base.
            let learner = learner.with_reference(peft::open(dir, decoder)?);
            Ok((learner, config))
        }
        Trained::Fresh { config, layers, b_rate } => {
            let mut config = config.as_ref().clone();
            let count = decoder.spec.num_layers();
            config.excluded.layers = match layers {
                Some(Layers::Last(last)) => Some((count.saturating_sub(*last)..count).collect()),
                Some(Layers::These(these)) => {
                    if let Some(bad) = these.iter().find(|it| **it >= count) {
                        let message = format!("this model has {count} layers: `--layers {bad}`");
                        return Err(Failure::usage("bad-setting", message).into());
                    }
                    Some(these.clone())
                }
                None => None,
            };
            let lora = Lora::fresh(&config, decoder, settings.seed)?;
            identity.set("adapter", peft::config_json(&config).replace(['\n', ' '], ""));
            identity.set("lora_plus", b_rate);
            Ok((Learner::adapter(Arc::clone(decoder), lora, *b_rate)?, config))
        }
        Trained::Full | Trained::Scratch { .. } => unreachable!("invariant: handled by the caller"),
    }
}

/// What log-probabilities under the reference depend on.
pub fn reference_key(identity: &Identity, data: &TrainingData) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for name in ["version", "base_weights", "base_packed", "products", "config", "init_adapter"] {
        hasher.update(identity.get(name).as_bytes());
        hasher.update(b"\n");
    }
    hasher.update(data.content_hash().as_bytes());
    *hasher.finalize().as_bytes()
}

/// What [`write_reference`] wrote for `key`, if it is there.
pub fn read_reference(path: &Path, key: &[u8; 32], len: usize) -> Option<ReferenceLogProbs> {
    let bytes = std::fs::read(path).ok()?;
    let rest = bytes.strip_prefix(key.as_slice())?;
    ReferenceLogProbs::from_bytes(rest, len)
}

/// Keeps log-probabilities for a run that goes on.
///
/// # Errors
/// A file that can't be written.
pub fn write_reference(
    path: &Path,
    key: &[u8; 32],
    values: &ReferenceLogProbs,
) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|it| errors::file("write", folder, &it))?;
    }
    atomic_file::write::<std::io::Error>(path, Readers::Umask, |file| {
        use std::io::Write;
        file.write_all(key)?;
        file.write_all(&values.to_bytes())
    })
    .map_err(|it| errors::file("write", path, &it))?;
    Ok(())
}
