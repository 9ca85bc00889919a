//! `finetune`, resolved.

use std::path::PathBuf;

use minicrit_engine::{cache::CacheType, recipe::Mix};
use minicrit_lora::{
    data::{self, DataFile, Task},
    losses::{Kto, PairLoss},
    optimizer::AdamW,
    peft::{AdapterConfig, Excluded, Targets},
    schedule::Decay,
    trainer::{Compute as Products, Method},
};

use super::{Compute, mix_at_load, model_or_default, threads};
use crate::{
    args::{
        AdapterArgs, CourseArgs, DtypeArg, FinetuneArgs, MethodArg, OptimizerArgs, PairLossArg,
        PreferenceArgs, RejectionArgs, SchedulerArg, Switch,
    },
    catalog::Catalog,
    env::Environment,
    errors::Failure,
    model::ModelRef,
};

/// `finetune`, resolved.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct FinetuneSettings {
    pub model: ModelRef,
    pub files: Vec<DataFile>,
    pub valid_split: f64,
    pub output: PathBuf,
    pub method: Method,
    pub task: Task,
    pub skip_invalid: bool,
    pub max_seq_len: Option<usize>,
    pub length: Length,
    pub batch_size: usize,
    pub grad_accum: usize,
    pub packing: bool,
    pub shuffle: bool,
    pub seed: u64,
    pub before: Before,
    pub json: bool,
    pub compute: Compute,
    pub trained: Trained,
    pub base: Option<Mix>,
    pub products: Products,
    pub optimizer: OptimizerSettings,
    /// What is drawn from the model first, and trained on.
    pub rejection: Option<RejectionSettings>,
    pub course: CourseSettings,
}

/// How critiques are drawn from the model and chosen.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct RejectionSettings {
    pub samples: usize,
    /// Share of the samples of a case that is kept.
    pub share: f64,
    pub temperature: f64,
    /// A program instead of the rules.
    pub program: Option<PathBuf>,
}

/// How long to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Length {
    Steps(u64),
    Epochs(u64),
}

/// What is done instead of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Before {
    Train,
    DryRun,
    Explain(usize),
}

/// What is trained.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Trained {
    /// A new adapter; `layers` is resolved when the model is known.
    Fresh { config: Box<AdapterConfig>, layers: Option<Layers>, b_rate: f64 },
    /// An adapter that exists.
    Continued { dir: PathBuf, b_rate: f64 },
    /// All weights.
    Full,
    /// All weights, from random ones.
    Scratch { config: Option<PathBuf> },
}

/// A choice of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Layers {
    Last(usize),
    These(Vec<usize>),
}

/// The optimizer's settings, as far as the number of steps does not matter.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct OptimizerSettings {
    pub peak: f64,
    pub decay: Decay,
    pub warmup: Option<u64>,
    pub floor: f64,
    pub method: AdamW,
    pub clip: Option<f64>,
    pub dropout: f32,
}

/// When what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CourseSettings {
    pub save_every: Option<u64>,
    pub keep: usize,
    pub resume: bool,
    pub eval_every: Option<u64>,
    pub patience: Option<u64>,
    pub eval_before_after: bool,
}

/// Checkpoints that are kept where nobody says how many.
const KEPT_CHECKPOINTS: usize = 2;

/// Share of drawn critiques that is kept where nobody says how many.
const KEPT_SHARE: f64 = 0.25;

impl FinetuneSettings {
    /// Resolves `finetune`.
    ///
    /// # Errors
    /// Numbers out of range, flags that contradict each other, absent data.
    pub fn resolve(
        args: FinetuneArgs,
        environment: &Environment,
        catalog: &Catalog,
    ) -> anyhow::Result<Self> {
        let FinetuneArgs {
            model,
            data,
            valid,
            valid_split,
            output,
            method,
            skip_invalid,
            max_seq_len,
            iters,
            epochs,
            batch_size,
            grad_accum,
            packing,
            no_shuffle,
            seed,
            dry_run,
            explain,
            json,
            pull,
            threads: threads_arg,
            adapter,
            optimizer,
            preference,
            rejection,
            course,
        } = args;
        let is_rejection = method == MethodArg::Rsf;
        let method = method_of(method, preference)?;
        let task = match method {
            Method::Sft => Task::Supervised,
            Method::Pairs(_) => Task::Preference,
            Method::Kto(_) => Task::Labelled,
        };
        let base = mix_at_load(&adapter.base)?;
        let whole = adapter.full || adapter.from_scratch;
        if whole && base.is_some() {
            return Err(usage("packed weights can't be trained: `--base`", "drop --base").into());
        }
        if whole && matches!(method, Method::Kto(_)) {
            let what = "KTO needs its reference in every step: `--full`";
            return Err(usage(what, "train an adapter, or use --method dpo").into());
        }
        let products = match adapter.dtype {
            DtypeArg::F32 => Products::Float32,
            DtypeArg::Bf16 => Products::Bf16,
        };
        if products == Products::Bf16 && adapter.dropout > 0.0 {
            let what = "products in bfloat16 train without dropout alone: `--dtype bf16`";
            return Err(usage(what, "drop --dtype or --dropout").into());
        }
        if adapter.dora && adapter.dropout > 0.0 {
            let what = "DoRA with dropout is not supported: `--dropout`";
            return Err(usage(what, "drop --dropout or --dora").into());
        }
        let dropout = within("--dropout", adapter.dropout, 0.0, 0.99)? as f32;
        let optimizer = optimizer_of(optimizer, method, whole, dropout)?;
        let trained = trained_of(adapter)?;
        let CourseArgs { save_every, keep, resume, eval_every, patience, eval_before_after } =
            course;
        let rejection = match is_rejection {
            true => Some(rejection_of(rejection, keep, &trained)?),
            false => None,
        };
        let keep = match keep {
            Some(keep) if !is_rejection => {
                if keep < 1.0 || keep.fract() != 0.0 || keep > 1e6 {
                    let what =
                        format!("a number of checkpoints is a whole number: `--keep {keep}`");
                    return Err(usage(&what, "a share is kept with --method rsf alone").into());
                }
                keep as usize
            }
            _ => KEPT_CHECKPOINTS,
        };
        Ok(Self {
            model: model_or_default(model, environment, catalog)?,
            files: data::data_files(&data, valid.as_deref())?,
            valid_split: within("--valid-split", valid_split.unwrap_or(0.0), 0.0, 0.9)?,
            output,
            method,
            task,
            skip_invalid,
            max_seq_len: max_seq_len.map(|it| it as usize),
            length: match (iters, epochs) {
                (Some(steps), _) => Length::Steps(steps),
                (None, epochs) => Length::Epochs(epochs.unwrap_or(2)),
            },
            batch_size: batch_size as usize,
            grad_accum: grad_accum as usize,
            packing: packing == Switch::On,
            shuffle: !no_shuffle,
            seed,
            before: match (explain, dry_run) {
                (Some(count), _) => Before::Explain(count),
                (None, true) => Before::DryRun,
                (None, false) => Before::Train,
            },
            json,
            compute: Compute {
                threads: threads(threads_arg, environment)?,
                chunk: minicrit_engine::sequence::DEFAULT_CHUNK,
                context: None,
                quantize: base,
                cache_type: CacheType::F32,
                kept: None,
                adapter: None,
                pull,
            },
            trained,
            base,
            products,
            optimizer,
            rejection,
            course: CourseSettings {
                save_every,
                keep,
                resume,
                eval_every,
                patience,
                eval_before_after,
            },
        })
    }
}

fn usage(message: impl Into<String>, hint: &str) -> Failure {
    Failure::usage("usage", message).hint(hint)
}

fn within(flag: &str, value: f64, low: f64, high: f64) -> Result<f64, Failure> {
    if value.is_finite() && (low..=high).contains(&value) {
        return Ok(value);
    }
    let message = format!("must be from {low} to {high}: `{flag} {value}`");
    Err(Failure::usage("bad-setting", message).hint("minicrit finetune --help"))
}

fn method_of(method: MethodArg, preference: PreferenceArgs) -> Result<Method, Failure> {
    let PreferenceArgs { beta, loss, label_smoothing, gamma } = preference;
    let default = if method == MethodArg::Simpo { 2.0 } else { 0.1 };
    let beta = within("--beta", beta.unwrap_or(default), 1e-6, 1e6)?;
    let label_smoothing = within("--label-smoothing", label_smoothing, 0.0, 0.5)?;
    let gamma = within("--gamma", gamma, 0.0, 1e6)?;
    Ok(match method {
        MethodArg::Sft | MethodArg::Rsf => Method::Sft,
        MethodArg::Dpo => Method::Pairs(match loss {
            PairLossArg::Sigmoid => PairLoss::Sigmoid { beta, label_smoothing },
            PairLossArg::Ipo => PairLoss::Ipo { beta },
            PairLossArg::Hinge => PairLoss::Hinge { beta },
        }),
        MethodArg::Orpo => Method::Pairs(PairLoss::Orpo { lambda: beta }),
        MethodArg::Simpo => Method::Pairs(PairLoss::SimPo { beta, gamma }),
        MethodArg::Kto => Method::Kto(Kto { beta, desirable: 1.0, undesirable: 1.0 }),
    })
}

fn rejection_of(
    args: RejectionArgs,
    keep: Option<f64>,
    trained: &Trained,
) -> Result<RejectionSettings, Failure> {
    let RejectionArgs { samples, sample_temperature, scorer } = args;
    if matches!(trained, Trained::Scratch { .. }) {
        let what =
            "a model that begins with random weights has nothing to draw from: `--method rsf`";
        return Err(usage(what, "drop --from-scratch"));
    }
    Ok(RejectionSettings {
        samples: samples as usize,
        share: within("--keep", keep.unwrap_or(KEPT_SHARE), 1e-3, 1.0)?,
        temperature: within("--sample-temperature", sample_temperature, 0.0, 100.0)?,
        program: (scorer != "rules").then(|| PathBuf::from(scorer)),
    })
}

fn optimizer_of(
    args: OptimizerArgs,
    method: Method,
    whole: bool,
    dropout: f32,
) -> Result<OptimizerSettings, Failure> {
    let OptimizerArgs { lr, scheduler, warmup, lr_floor, weight_decay, clip } = args;
    let default = if method == Method::Sft { 2e-4 } else { 5e-6 };
    let default = if whole { 0.1 * default } else { default };
    let clip = within("--clip", clip, 0.0, 1e12)?;
    let weight_decay = within("--weight-decay", weight_decay, 0.0, 1e3)?;
    Ok(OptimizerSettings {
        peak: within("--lr", lr.unwrap_or(default), 0.0, 1e3)?,
        decay: match scheduler {
            SchedulerArg::Constant => Decay::Constant,
            SchedulerArg::Linear => Decay::Linear,
            SchedulerArg::Cosine => Decay::Cosine,
        },
        warmup,
        floor: within("--lr-floor", lr_floor, 0.0, 1.0)?,
        method: AdamW { weight_decay, ..AdamW::default() },
        clip: (clip > 0.0).then_some(clip),
        dropout,
    })
}

fn trained_of(args: AdapterArgs) -> Result<Trained, Failure> {
    let AdapterArgs {
        rank,
        alpha,
        dropout,
        target_modules,
        exclude_modules,
        rank_pattern,
        alpha_pattern,
        layers,
        rslora,
        dora,
        lora_plus,
        init_adapter,
        full,
        from_scratch,
        config,
        base: _,
        dtype: _,
    } = args;
    let b_rate = within("--lora-plus", lora_plus, 1e-3, 1e3)?;
    if from_scratch {
        return Ok(Trained::Scratch { config });
    }
    if full {
        return Ok(Trained::Full);
    }
    if let Some(dir) = init_adapter {
        return Ok(Trained::Continued { dir, b_rate });
    }
    let whole = |it: f64| {
        if it.fract() == 0.0 && (1.0..=65_536.0).contains(&it) { Some(it as usize) } else { None }
    };
    let config = AdapterConfig {
        rank: rank as usize,
        alpha: within("--alpha", alpha, 1e-6, 1e6)?,
        rank_pattern: table("--rank-pattern", &rank_pattern, whole)?,
        alpha_pattern: table("--alpha-pattern", &alpha_pattern, Some)?,
        rslora,
        dora,
        targets: Targets::parse(&target_modules),
        excluded: Excluded { modules: exclude_modules.map(|it| Targets::parse(&it)), layers: None },
        modules_to_save: Vec::new(),
        dropout,
        base_name: None,
    };
    let layers = layers.map(|it| layers_of(&it)).transpose()?;
    Ok(Trained::Fresh { config: Box::new(config), layers, b_rate })
}

fn table<T>(
    flag: &str,
    entries: &[String],
    read: impl Fn(f64) -> Option<T>,
) -> Result<Vec<(String, T)>, Failure> {
    let entry = |text: &String| {
        let (pattern, value) = text.rsplit_once('=')?;
        let value = value.parse::<f64>().ok().filter(|it| it.is_finite() && *it > 0.0)?;
        Some((pattern.to_string(), read(value)?))
    };
    let bad = |text: &String| {
        let message = format!("must be PATTERN=NUMBER: `{flag} {text}`");
        Failure::usage("bad-setting", message).hint(format!("for example {flag} q_proj=8"))
    };
    entries.iter().map(|it| entry(it).ok_or_else(|| bad(it))).collect()
}

fn layers_of(text: &str) -> Result<Layers, Failure> {
    let last = text.strip_prefix("last:").map(|it| it.parse().ok().filter(|it| *it > 0));
    let these = || text.split(',').map(|it| it.trim().parse().ok()).collect::<Option<Vec<_>>>();
    let found = match last {
        Some(count) => count.map(Layers::Last),
        None => these().map(Layers::These),
    };
    found.ok_or_else(|| {
        Failure::usage("bad-setting", format!("no choice of layers: `--layers {text}`"))
            .hint("pass --layers last:8 or --layers 0,1,2")
    })
}
