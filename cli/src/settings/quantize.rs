//! `quantize`, resolved.

use std::path::PathBuf;

use minicrit_engine::recipe::Mix;
use minicrit_quant::PackedKind;

use super::{mix_named, threads};
use crate::{
    args::QuantizeArgs, catalog::Catalog, env::Environment, errors::Failure, model::ModelRef,
};

/// What to write, where, and what to measure.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct QuantizeSettings {
    pub model: ModelRef,
    pub mix: Mix,
    /// Most bytes of the file.
    pub budget: Option<u64>,
    pub output: PathBuf,
    pub force: bool,
    pub report: bool,
    /// Texts of report and budget, where they are not the built-in ones.
    pub data: Option<PathBuf>,
    pub calibrate: Option<PathBuf>,
    pub threads: usize,
    pub json: bool,
}

impl QuantizeSettings {
    /// Resolves `quantize`.
    ///
    /// # Errors
    /// An unknown model or format; a bad environment variable.
    pub fn resolve(
        args: QuantizeArgs,
        environment: &Environment,
        catalog: &Catalog,
    ) -> Result<Self, Failure> {
        let QuantizeArgs {
            model,
            format,
            budget,
            output,
            force,
            report,
            data,
            calibrate,
            threads: count,
            json,
        } = args;
        let budget = budget.as_deref().map(bytes_of).transpose()?;
        let mix = format.as_deref().map(mix_named).transpose()?;
        if data.is_some() && !report && budget.is_none() {
            return Err(Failure::usage("usage", "nothing is measured: `--data`")
                .hint("pass --report or --budget with it"));
        }
        Ok(Self {
            model: ModelRef::parse(&model, catalog)?,
            mix: mix.unwrap_or(PackedKind::Q4.into()),
            budget,
            output,
            force,
            report,
            data,
            calibrate,
            threads: threads(count, environment)?,
            json,
        })
    }
}

/// A size such as `400MB`, `1.5GB`, `800MiB` or `123456`.
fn bytes_of(text: &str) -> Result<u64, Failure> {
    let digits = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => f64::NAN,
    };
    let bytes = number.parse::<f64>().map(|it| it * factor).ok();
    match bytes.filter(|it| it.is_finite() && *it >= 1.0) {
        Some(bytes) => Ok(bytes as u64),
        None => Err(Failure::usage("bad-size", format!("no size: `--budget {text}`"))
            .hint("give a number with MB or GB, such as 400MB")),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes_of;

    #[test]
    fn sizes_are_read_in_every_spelling() {
        let read = |text| bytes_of(text).ok();
        assert_eq!(read("400MB"), Some(400_000_000));
        assert_eq!(read("1.5 gb"), Some(1_500_000_000));
        assert_eq!(read("2KiB"), Some(2048));
        assert_eq!(read("77"), Some(77));
        for bad in ["", "MB", "0", "-1MB", "1.2.3MB", "5 parsecs", "NaN", "inf"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
