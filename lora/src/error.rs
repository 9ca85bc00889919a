//! The one error of this crate.

use std::path::PathBuf;

use minicrit_engine::NamedError;

/// Most problems that a message lists.
const MAX_LISTED: usize = 20;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// A file of an adapter or a run that can't be read or written.
    #[error("can't {verb} `{}`: {source}", path.display())]
    File {
        /// `read` or `write`.
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A folder that holds no adapter.
    #[error("`{}` holds no adapter: `{missing}` is missing", path.display())]
    NoAdapter {
        /// The folder.
        path: PathBuf,
        /// The file that every adapter has.
        missing: &'static str,
    },
    /// An adapter_config.json that can't be, or asks for what is not supported.
    #[error("`{}` does not describe an adapter that can be used: {}", path.display(), listed(problems))]
    AdapterConfig {
        /// The file.
        path: PathBuf,
        /// Every problem.
        problems: Vec<String>,
    },
    /// Tensors of an adapter that do not fit its config or the model.
    #[error("the tensors of `{origin}` do not fit: {}", listed(problems))]
    AdapterTensors {
        /// The file or folder.
        origin: String,
        /// Every missing, unused or misshapen tensor.
        problems: Vec<String>,
    },
    /// An adapter that was trained on another base.
    #[error("the adapter `{origin}` was trained on another base than this model: {what}")]
    OtherBase {
        /// The folder.
        origin: String,
        /// What differs.
        what: String,
    },
    /// An adapter that changes nothing.
    #[error("the adapter `{origin}` moves no logit: all its changes are zero")]
    NoEffect {
        /// The folder.
        origin: String,
    },
    /// Modules to train that this model does not have.
    #[error("bad choice of modules to train: {what}")]
    Targets {
        /// What and where.
        what: String,
    },
    /// A setting of the trainer that makes no sense.
    #[error("{what}: `{setting}`")]
    Setting {
        /// The flag or field.
        setting: String,
        /// What is wrong with it.
        what: String,
    },
    /// A loss or gradient that is not finite.
    #[error("the {what} of step {step} is not finite; lines of the data: {lines}")]
    NonFinite {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// Step, from 1.
        step: u64,
        /// Lines of the examples.
        lines: String,
    },
    /// A checkpoint of another run.
    #[error("can't resume from `{}`: {}", path.display(), listed(problems))]
    Resume {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        problems: Vec<String>,
    },
    /// Adapters that can't become one.
    #[error("these adapters can't be merged: {}", listed(problems))]
    Merge {
        /// Every module that stands against it.
        problems: Vec<String>,
    },
    /// An adapter that another format can't hold.
    #[error("this adapter can't be exported: {what}")]
    Export {
        /// Why.
        what: String,
    },
    /// An adapter and a base that can't become one model.
    #[error("this adapter can't be fused: {what}")]
    Fuse {
        /// Why.
        what: String,
    },
    /// A folder holds more than an adapter.
    #[error("`{}` holds more than an adapter: {}", path.display(), few(names))]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What is not an adapter's.
        names: Vec<String>,
    },
    /// A result whose place is taken.
    #[error("there is something of this name already: `{}`", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// The engine's errors.
    #[error(transparent)]
    Engine(#[from] minicrit_engine::Error),
    /// Stored weights.
    #[error(transparent)]
    Quant(#[from] minicrit_quant::Error),
    /// Tensor arithmetic.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

fn listed(problems: &[String]) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(MAX_LISTED) {
        text.push_str("\n  ");
        text.push_str(problem);
    }
    if problems.len() > MAX_LISTED {
        text.push_str(&format!("\n  and {} more", problems.len() - MAX_LISTED));
    }
    text
}

impl LoraError {
    /// A file that can't be read or written.
    pub fn file(verb: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::File { verb, path: path.to_path_buf(), source }
    }

    pub(crate) fn setting(setting: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Setting { setting: setting.into(), what: what.into() }
    }
}

/// The first names of a list, and how many there are beyond them.
fn few(names: &[String]) -> String {
    let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0..=5 => shown,
        all => format!("{shown} and {} more", all - 5),
    }
}

impl From<minicrit_engine::source::SourceError> for LoraError {
    fn from(error: minicrit_engine::source::SourceError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<minicrit_engine::model::ModelError> for LoraError {
    fn from(error: minicrit_engine::model::ModelError) -> Self {
        Self::Engine(error.into())
    }
}

impl NamedError for LoraError {
    fn name(&self) -> &'static str {
        use std::io::ErrorKind;
        match self {
            LoraError::File { source, .. } => match source.kind() {
                ErrorKind::NotFound => "file-not-found",
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "no-space",
                _ => "file",
            },
            LoraError::NoAdapter { .. } => "adapter-not-found",
            LoraError::AdapterConfig { .. } => "bad-adapter-config",
            LoraError::AdapterTensors { .. } => "bad-adapter",
            LoraError::OtherBase { .. } => "wrong-base",
            LoraError::NoEffect { .. } => "adapter-without-effect",
            LoraError::Targets { .. } => "bad-targets",
            LoraError::Setting { .. } => "bad-setting",
            LoraError::NonFinite { .. } => "numerics",
            LoraError::Resume { .. } => "bad-resume",
            LoraError::Merge { .. } => "bad-merge",
            LoraError::Export { .. } => "bad-export",
            LoraError::Fuse { .. } => "bad-fuse",
            LoraError::Exists { .. } => "file-exists",
            LoraError::Foreign { .. } => "foreign-files",
            LoraError::Engine(it) => it.name(),
            LoraError::Quant(_) => "weights",
            LoraError::Tensor(_) => "tensor",
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            LoraError::NoAdapter { .. } => {
                "pass a folder with adapter_config.json and adapter_model.safetensors, as PEFT and \
                 minicrit finetune write them"
            }
            LoraError::AdapterConfig { .. } => {
                "save the adapter again as plain LoRA, rsLoRA or DoRA"
            }
            LoraError::AdapterTensors { .. } | LoraError::OtherBase { .. } => {
                "run the model that the adapter was trained on, named in its adapter_config.json"
            }
            LoraError::NoEffect { .. } => {
                "train it (minicrit finetune), or run the model without --adapter"
            }
            LoraError::Targets { .. } => {
                "pass --target-modules all-linear, names such as q_proj,v_proj, or a regular \
                 expression of the whole path"
            }
            LoraError::NonFinite { .. } => {
                "lower --lr, keep --clip 1.0, and look at the named lines of the data"
            }
            LoraError::Resume { .. } => {
                "pass the data and settings of the interrupted run, or train into a new --output"
            }
            LoraError::Merge { .. } => {
                "pass adapters of one base; --method cat takes adapters of any rank"
            }
            LoraError::Export { .. } => "fuse the adapter into its base: minicrit fuse",
            LoraError::Exists { .. } => "pass another --output, or remove what is there",
            LoraError::Foreign { .. } => {
                "move those files away first, or remove the folder yourself"
            }
            LoraError::File { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => "check the spelling of the path",
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    "free some space; a run with checkpoints goes on with --resume"
                }
                _ => "check the path and its permissions",
            },
            LoraError::Engine(it) => return it.hint(),
            _ => return None,
        };
        Some(hint.into())
    }
}
