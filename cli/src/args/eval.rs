//! `minicrit eval`.

use std::path::PathBuf;

use clap::Args;

use super::{ComputeArgs, critique::CriticArgs};

const EXAMPLES: &str = "\
Examples:
  minicrit eval adversarial                                  the built-in critic on 100 hard cases
  minicrit eval holdout --adapter ./critic-v2 --compare base --output report
  minicrit eval cases.jsonl --model ./model --min-f1 0.9 --max-fpr 0.08
  minicrit eval holdout --sweep temperature=0,0.5,1 --sweep prompt=rationale,expert

SUITE is adversarial, holdout, or a file of lines like
  {\"rationale\": \"...\", \"label\": \"flawed\", \"flaw_type\": \"small sample\", \"operator\": \"flawed\"}
Exit code 100: a threshold was missed. A run with --output that was stopped goes on where it was.";

/// Arguments of `eval`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EvalArgs {
    /// What to measure on
    pub suite: String,

    /// Another critic to compare with: a model, or `base` for the same model without the adapter
    #[arg(long, value_name = "MODEL|base")]
    pub compare: Option<String>,

    /// Adapter of the critic to compare with
    #[arg(long, value_name = "DIR", requires = "compare")]
    pub compare_adapter: Option<String>,

    /// Only cases of this domain
    #[arg(long, value_name = "NAME")]
    pub domain: Option<String>,

    /// Only the first N cases
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,

    /// Seed of the bootstrap and of drawn verdicts
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Folder for report.html, report.json, errors.jsonl and the results of each case
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Settings to try: temperature=0,0.5,1 or prompt=rationale,expert or cot=off,on; may be repeated
    #[arg(long, value_name = "NAME=V,V", conflicts_with = "compare")]
    pub sweep: Vec<String>,

    /// Fit the confidence to this suite and keep the fit in the folder of adapter or model
    #[arg(long, conflicts_with_all = ["sweep", "compare"])]
    pub calibrate: bool,

    /// Let this model judge the explanations of right verdicts
    #[arg(long, value_name = "MODEL")]
    pub judge: Option<String>,

    /// Explanations that the judge sees
    #[arg(long, value_name = "N", default_value_t = 50, requires = "judge")]
    pub judge_sample: u32,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub thresholds: ThresholdArgs,

    #[command(flatten)]
    pub critic: CriticArgs,

    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Bars to clear.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Thresholds (exit code 100 where one is missed)")]
pub struct ThresholdArgs {
    /// Least F1 of finding flaws
    #[arg(long, value_name = "X")]
    pub min_f1: Option<f64>,

    /// Least share of right verdicts
    #[arg(long, value_name = "X")]
    pub min_accuracy: Option<f64>,

    /// Largest share of valid cases that are called flawed
    #[arg(long, value_name = "X")]
    pub max_fpr: Option<f64>,

    /// Largest calibration error
    #[arg(long, value_name = "X")]
    pub max_ece: Option<f64>,

    /// Longest 95th percentile of a verdict's time, in milliseconds
    #[arg(long, value_name = "MS")]
    pub max_p95_ms: Option<f64>,
}
