//! The one error of this crate: each area has its own enum, each variant a stable name.

/// What every error of this project can tell a user beyond its message.
pub trait NamedError: std::error::Error {
    /// Stable machine name, in kebab case (`error[name]` on the command line).
    fn name(&self) -> &'static str;

    /// What the user can do about it, where there is something.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Files of a model: folders, safetensors, GGUF, config.json.
    #[error(transparent)]
    Source(#[from] crate::source::SourceError),
    /// A model's description or its weights do not fit together.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// Tokenizers and token ids.
    #[error(transparent)]
    Tokens(#[from] crate::tokens::TokensError),
    /// Chat templates.
    #[error(transparent)]
    Chat(#[from] crate::chat::ChatError),
    /// Sampling settings, drafting and generation.
    #[error(transparent)]
    Session(#[from] crate::session::SessionError),
    /// The model registry.
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// Writing a model in another form.
    #[error(transparent)]
    Export(#[from] crate::export::ExportError),
    /// Stored weights.
    #[error(transparent)]
    Quant(#[from] minicrit_quant::Error),
    /// Tensor arithmetic.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        match self {
            Error::Source(it) => it.name(),
            Error::Model(it) => it.name(),
            Error::Tokens(it) => it.name(),
            Error::Chat(it) => it.name(),
            Error::Session(it) => it.name(),
            Error::Registry(it) => it.name(),
            Error::Export(it) => it.name(),
            Error::Quant(_) => "weights",
            Error::Tensor(_) => "tensor",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Source(it) => it.hint(),
            Error::Model(it) => it.hint(),
            Error::Tokens(it) => it.hint(),
            Error::Chat(it) => it.hint(),
            Error::Session(it) => it.hint(),
            Error::Registry(it) => it.hint(),
            Error::Export(it) => it.hint(),
            Error::Quant(_) | Error::Tensor(_) => None,
        }
    }
}
