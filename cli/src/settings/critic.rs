//! `critique` and `eval`, resolved.

use std::{path::PathBuf, time::Duration};

use minicrit_critic::{
    critique::{EndpointSettings, Profile, PromptStyle},
    eval::{Calibration, Metric, Threshold},
};

use super::{Compute, model_or_default};
use crate::{
    adapter::AdapterRef,
    args::{CriticArgs, CritiqueArgs, EvalArgs, ThresholdArgs},
    catalog::Catalog,
    env::Environment,
    errors::Failure,
    model::ModelRef,
};

/// A model, how it is loaded, and how it is asked.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct CriticSettings {
    pub model: ModelRef,
    pub compute: Compute,
    pub style: PromptStyle,
    pub calibration: Calibration,
    pub endpoint: Option<EndpointSettings>,
}

/// Seconds that one request to a server may take.
const ENDPOINT_SECONDS: u64 = 120;

/// Tries of one request.
const ENDPOINT_TRIES: u32 = 4;

impl CriticSettings {
    /// Resolves the critic: a flag wins over the profile beside adapter or model, that over the
    /// default.
    ///
    /// # Errors
    /// An unknown model or prompt style; a broken profile.
    pub fn resolve(
        args: CriticArgs,
        compute: Compute,
        environment: &Environment,
        catalog: &Catalog,
    ) -> anyhow::Result<Self> {
        let CriticArgs { model, endpoint, prompt } = args;
        let style = prompt.map(|it| PromptStyle::parse(&it)).transpose()?;
        if let (Some(url), Some(model)) = (endpoint, &model) {
            let endpoint = EndpointSettings {
                url,
                model: model.clone(),
                key: environment.endpoint_key.clone(),
                timeout: Duration::from_secs(ENDPOINT_SECONDS),
                tries: ENDPOINT_TRIES,
            };
            let style = Some(style.unwrap_or(PromptStyle::Expert));
            let settings = Self::of(ModelRef::Builtin, compute, style)?;
            return Ok(Self { endpoint: Some(endpoint), ..settings });
        }
        Self::of(model_or_default(model, environment, catalog)?, compute, style)
    }

    /// The critic on `model` with the adapter of `compute`.
    ///
    /// # Errors
    /// A broken profile.
    pub fn of(
        model: ModelRef,
        compute: Compute,
        style: Option<PromptStyle>,
    ) -> anyhow::Result<Self> {
        let folder = match (&compute.adapter, &model) {
            (Some(adapter), _) => Some(adapter.dir.clone()),
            (None, ModelRef::Path(path)) if path.is_dir() => Some(path.clone()),
            _ => None,
        };
        let profile = match folder {
            Some(folder) => Profile::read(&folder)?,
            None if model == ModelRef::Builtin && compute.adapter.is_none() => {
                Some(Profile::builtin())
            }
            None => None,
        };
        let trained = model == ModelRef::Builtin || compute.adapter.is_some();
        let style = match (style, &profile) {
            (Some(style), _) => style,
            (None, Some(profile)) => profile.style()?,
            (None, None) if trained => PromptStyle::Rationale,
            (None, None) => PromptStyle::Expert,
        };
        let calibration = profile.map(|it| it.calibration).unwrap_or_default();
        Ok(Self { model, compute, style, calibration, endpoint: None })
    }

    /// What results call it.
    pub fn label(&self) -> String {
        if let Some(endpoint) = &self.endpoint {
            return format!("{} at {}", endpoint.model, endpoint.url);
        }
        let mut label = self.model.label();
        if let Some(adapter) = &self.compute.adapter {
            label += &format!(" + {}", adapter.dir.display());
        }
        label
    }
}

/// Where rationales come from.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Rationales {
    Text(String),
    Stdin,
    File(PathBuf),
    Batch { input: PathBuf, output: Option<PathBuf> },
}

/// `critique`, resolved.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct CritiqueSettings {
    pub rationales: Rationales,
    pub explain: bool,
    pub fail_on_flawed: bool,
    pub json: bool,
    pub critic: CriticSettings,
}

impl CritiqueSettings {
    /// Resolves `critique`. Without a text, one that comes through a pipe is read.
    ///
    /// # Errors
    /// As for the critic; no text in a terminal.
    pub fn resolve(
        args: CritiqueArgs,
        environment: &Environment,
        catalog: &Catalog,
        in_terminal: bool,
    ) -> anyhow::Result<Self> {
        let CritiqueArgs { text, file, batch, output, explain, fail_on, json, critic, compute } =
            args;
        let rationales = match (text, file, batch) {
            (_, Some(file), _) => Rationales::File(file),
            (_, _, Some(input)) => Rationales::Batch { input, output },
            (Some(text), _, _) if text != "-" => Rationales::Text(text),
            (None, _, _) if in_terminal => {
                return Err(Failure::usage("no-rationale", "there is nothing to judge")
                    .hint("minicrit critique \"your argument\"")
                    .into());
            }
            _ => Rationales::Stdin,
        };
        let compute = Compute::resolve(compute, environment)?;
        let critic = CriticSettings::resolve(critic, compute, environment, catalog)?;
        Ok(Self { rationales, explain, fail_on_flawed: fail_on.is_some(), json, critic })
    }
}

/// One setting to try and its values.
#[derive(Debug, Clone, PartialEq)]
pub enum Sweep {
    /// Verdicts are drawn at these temperatures.
    Temperature(Vec<f64>),
    /// The model is asked in these ways.
    Prompt(Vec<PromptStyle>),
}

/// `eval`, resolved.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct EvalSettings {
    pub suite: String,
    pub critic: CriticSettings,
    pub compare: Option<CriticSettings>,
    pub domain: Option<String>,
    pub limit: Option<usize>,
    pub seed: u64,
    pub output: Option<PathBuf>,
    pub sweep: Vec<Sweep>,
    pub calibrate: bool,
    pub judge: Option<(CriticSettings, usize)>,
    pub thresholds: Vec<Threshold>,
    pub max_p95_ms: Option<f64>,
    pub json: bool,
}

impl EvalSettings {
    /// Resolves `eval`.
    ///
    /// # Errors
    /// As for the critic; a bad sweep; a threshold that is no number.
    pub fn resolve(
        args: EvalArgs,
        environment: &Environment,
        catalog: &Catalog,
    ) -> anyhow::Result<Self> {
        let EvalArgs {
            suite,
            compare,
            compare_adapter,
            domain,
            limit,
            seed,
            output,
            sweep,
            calibrate,
            judge,
            judge_sample,
            json,
            thresholds,
            critic,
            compute,
        } = args;
        let compute = Compute::resolve(compute, environment)?;
        let style = critic.prompt.as_deref().map(PromptStyle::parse).transpose()?;
        let critic = CriticSettings::resolve(critic, compute.clone(), environment, catalog)?;
        let compare = match compare {
            None => None,
            Some(name) => {
                let adapter =
                    compare_adapter.map(|it| AdapterRef::find(&it, environment)).transpose()?;
                let compute = Compute { adapter, ..compute.clone() };
                Some(match name.as_str() {
                    // The bare model is asked as its adapter is: the adapter makes the difference.
                    "base" => {
                        let style = style.or(Some(critic.style));
                        CriticSettings::of(critic.model.clone(), compute, style)?
                    }
                    name => CriticSettings::of(ModelRef::parse(name, catalog)?, compute, style)?,
                })
            }
        };
        let judge = match judge {
            None => None,
            Some(name) => {
                let compute = Compute { adapter: None, ..compute };
                let model = ModelRef::parse(&name, catalog)?;
                let style = Some(PromptStyle::Expert);
                Some((CriticSettings::of(model, compute, style)?, judge_sample as usize))
            }
        };
        let max_p95_ms = thresholds.max_p95_ms;
        Ok(Self {
            suite,
            critic,
            compare,
            domain,
            limit: limit.map(|it| it as usize),
            seed,
            output,
            sweep: sweep.iter().map(|it| parse_sweep(it)).collect::<Result<_, _>>()?,
            calibrate,
            judge,
            thresholds: bars(thresholds)?,
            max_p95_ms,
            json,
        })
    }
}

fn bars(args: ThresholdArgs) -> Result<Vec<Threshold>, Failure> {
    let ThresholdArgs { min_f1, min_accuracy, max_fpr, max_ece, max_p95_ms: _ } = args;
    let given = [
        (Metric::F1, min_f1),
        (Metric::Accuracy, min_accuracy),
        (Metric::FalsePositiveRate, max_fpr),
        (Metric::Ece, max_ece),
    ];
    let mut bars = Vec::new();
    for (metric, bar) in given {
        let Some(bar) = bar else { continue };
        if !(0.0..=1.0).contains(&bar) {
            let message = format!("a bar of {} is a number from 0 to 1: {bar}", metric.name());
            return Err(Failure::usage("bad-threshold", message).hint("write 0.9 for 90 %"));
        }
        bars.push(Threshold { metric, bar });
    }
    Ok(bars)
}

fn parse_sweep(text: &str) -> anyhow::Result<Sweep> {
    let bad = |what: &str| {
        Failure::usage("bad-sweep", format!("{what}: `{text}`")).hint(
            "--sweep temperature=0,0.5,1 or --sweep prompt=rationale,expert or --sweep cot=off,on",
        )
    };
    let (name, values) = text.split_once('=').ok_or_else(|| bad("a sweep is NAME=VALUE,VALUE"))?;
    let values: Vec<&str> = values.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    if values.is_empty() {
        return Err(bad("there are no values").into());
    }
    match name {
        "temperature" => {
            let number =
                |it: &&str| it.parse().ok().filter(|it: &f64| it.is_finite() && *it >= 0.0);
            let values: Option<Vec<f64>> = values.iter().map(number).collect();
            Ok(Sweep::Temperature(
                values.ok_or_else(|| bad("a temperature is a number from 0 up"))?,
            ))
        }
        "prompt" => {
            let styles: Result<Vec<_>, _> =
                values.iter().map(|it| PromptStyle::parse(it)).collect();
            Ok(Sweep::Prompt(styles?))
        }
        "cot" => {
            let style = |it: &&str| match *it {
                "on" => Ok(PromptStyle::Cot),
                "off" => Ok(PromptStyle::Expert),
                _ => Err(bad("cot is on or off")),
            };
            Ok(Sweep::Prompt(values.iter().map(style).collect::<Result<_, _>>()?))
        }
        _ => Err(bad("there is no such setting to sweep").into()),
    }
}
