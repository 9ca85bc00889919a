//! Flags that say how the next token is chosen.

use clap::Args;

/// Sampling flags. Each one that is absent leaves the model's own default.
#[derive(Debug, Clone, Args)]
#[command(
    next_help_heading = "Sampling (default: greedy, unless the model's generation_config.json has do_sample)"
)]
pub struct SamplingArgs {
    /// Temperature; 0 always takes the most probable token
    #[arg(long, value_name = "T", value_parser = non_negative, allow_negative_numbers = true)]
    pub temperature: Option<f64>,

    /// Keep the K most probable tokens; 0 keeps all
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,

    /// Keep the fewest tokens whose probabilities reach P
    #[arg(long, value_name = "P", value_parser = fraction, allow_negative_numbers = true)]
    pub top_p: Option<f64>,

    /// Drop tokens below P times the best probability
    #[arg(long, value_name = "P", value_parser = fraction, allow_negative_numbers = true)]
    pub min_p: Option<f64>,

    /// Keep the tokens nearest to the expected surprise, up to probability P
    #[arg(long, value_name = "P", value_parser = positive_fraction, allow_negative_numbers = true)]
    pub typical_p: Option<f64>,

    /// Divide (or multiply) the logits of tokens seen before; 1 is off
    #[arg(long, value_name = "R", value_parser = positive, allow_negative_numbers = true)]
    pub repeat_penalty: Option<f64>,

    /// Subtract once from the logit of each token that was generated
    #[arg(long, value_name = "R", value_parser = penalty, allow_negative_numbers = true)]
    pub presence_penalty: Option<f64>,

    /// Subtract from a token's logit for each time it was generated
    #[arg(long, value_name = "R", value_parser = penalty, allow_negative_numbers = true)]
    pub frequency_penalty: Option<f64>,

    /// Seed: the same command with the same seed gives the same answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// The most tokens to generate [default: the rest of the context]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,

    /// Stop before this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,

    /// Go on after the model's end-of-text token
    #[arg(long)]
    pub ignore_eos: bool,
}

pub(crate) fn positive_fraction(text: &str) -> Result<f64, String> {
    let value = fraction(text).ok().filter(|it| *it > 0.0);
    value.ok_or_else(|| "expected a number above 0 and up to 1".into())
}

pub(crate) fn penalty(text: &str) -> Result<f64, String> {
    let value = finite(text).ok().filter(|it| (-2.0..=2.0).contains(it));
    value.ok_or_else(|| "expected a number from -2 to 2".into())
}

fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("expected a finite number".into()),
    }
}

pub(crate) fn non_negative(text: &str) -> Result<f64, String> {
    finite(text).ok().filter(|it| *it >= 0.0).ok_or_else(|| "expected a number of 0 or more".into())
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    finite(text).ok().filter(|it| *it > 0.0).ok_or_else(|| "expected a number above 0".into())
}

pub(crate) fn fraction(text: &str) -> Result<f64, String> {
    finite(text)
        .ok()
        .filter(|it| (0.0..=1.0).contains(it))
        .ok_or_else(|| "expected a number from 0 to 1".into())
}
