//! `data`, resolved.

use std::path::PathBuf;

use minicrit_lora::data::{DataFile, data_files};

use super::threads_or_all;
use crate::{args::DataCheckArgs, catalog::Catalog, env::Environment, model::ModelRef};

/// Problems of a rule that people are shown.
const SHOWN: u64 = 5;

/// `data check`, resolved.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct DataCheckSettings {
    pub files: Vec<DataFile>,
    pub model: Option<ModelRef>,
    pub max_seq_len: Option<usize>,
    pub rejected: Option<PathBuf>,
    pub limit: u64,
    pub json: bool,
    pub threads: usize,
}

impl DataCheckSettings {
    /// Resolves `data check`.
    ///
    /// # Errors
    /// Absent files, an unknown model, a bad environment variable.
    pub fn resolve(
        args: DataCheckArgs,
        environment: &Environment,
        catalog: &Catalog,
    ) -> anyhow::Result<Self> {
        let DataCheckArgs { data, valid, model, max_seq_len, rejected, limit, json } = args;
        Ok(Self {
            files: data_files(&data, valid.as_deref())?,
            model: model.map(|it| ModelRef::parse(&it, catalog)).transpose()?,
            max_seq_len: max_seq_len.map(|it| it as usize),
            rejected,
            limit: limit.unwrap_or(if json { u64::MAX } else { SHOWN }),
            json,
            threads: threads_or_all(None, environment)?,
        })
    }
}
