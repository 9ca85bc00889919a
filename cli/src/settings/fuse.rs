//! `fuse`, resolved.

use std::path::PathBuf;

use minicrit_engine::recipe::Mix;
use minicrit_lora::fuse::FusedDtype;

use super::mix_at_load;
use crate::{
    adapter::AdapterRef,
    args::{FuseArgs, FuseDtype},
    catalog::Catalog,
    env::Environment,
    errors::Failure,
    model::ModelRef,
};

/// `fuse`, resolved.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct FuseSettings {
    pub model: ModelRef,
    pub adapter: AdapterRef,
    pub output: PathBuf,
    pub dtype: FusedDtype,
    pub quantize: Option<Mix>,
    pub max_kl: f64,
    pub text: Option<PathBuf>,
    pub json: bool,
}

impl FuseSettings {
    /// Resolves `fuse`.
    ///
    /// # Errors
    /// Unknown models and formats; a bound that is no positive number.
    pub fn resolve(
        args: FuseArgs,
        environment: &Environment,
        catalog: &Catalog,
    ) -> Result<Self, Failure> {
        let FuseArgs { model, adapter, output, dtype, quant, max_kl, text, json } = args;
        if max_kl.is_nan() || max_kl <= 0.0 {
            let message = format!("a bound must be above 0: `--max-kl {max_kl}`");
            return Err(Failure::usage("bad-setting", message).hint("pass --max-kl 0.05"));
        }
        Ok(Self {
            model: ModelRef::parse(&model, catalog)?,
            adapter: AdapterRef::parse(&adapter)?.found(environment),
            output,
            dtype: match dtype {
                FuseDtype::Base => FusedDtype::Base,
                FuseDtype::F32 => FusedDtype::F32,
                FuseDtype::Bf16 => FusedDtype::Bf16,
            },
            quantize: mix_at_load(&quant)?,
            max_kl,
            text,
            json,
        })
    }
}
