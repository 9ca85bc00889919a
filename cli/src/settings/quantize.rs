//! `quantize`, resolved.

use std::path::PathBuf;

use minicrit_engine::recipe::Mix;

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
    pub output: PathBuf,
    pub force: bool,
    /// The report's texts; `Some(None)` are the built-in ones.
    pub report: Option<Option<PathBuf>>,
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
            output,
            force,
            report,
            data,
            calibrate,
            threads: count,
            json,
        } = args;
        let mix = mix_named(&format)?;
        if mix.is_packed() {
            let message = format!("files of this format can't be written yet: `--format {format}`");
            return Err(Failure::usage("not-built-yet", message)
                .hint("pass --quant with run to pack at load, or write q8_0 or q4_k_m"));
        }
        Ok(Self {
            model: ModelRef::parse(&model, catalog)?,
            mix,
            output,
            force,
            report: report.then_some(data),
            calibrate,
            threads: threads(count, environment)?,
            json,
        })
    }
}
