//! A loaded critic, for the commands that ask one.

use std::{path::PathBuf, sync::Arc};

use minicrit_critic::critique::{Backend, Critic, Endpoint, LocalBackend};
use minicrit_engine::chat::{Isolation, RenderOptions};

use crate::{model::Loaded, settings::CriticSettings};

/// Loads the model of `settings`.
///
/// # Errors
/// Those of loading; a model without a tokenizer.
pub fn open(settings: &CriticSettings) -> anyhow::Result<Critic> {
    Ok(Critic::new(backend(settings)?, settings.style, settings.calibration))
}

/// The model of `settings`, ready to score labels and to write.
///
/// # Errors
/// As [`open`].
pub fn backend(settings: &CriticSettings) -> anyhow::Result<Box<dyn Backend>> {
    if let Some(endpoint) = &settings.endpoint {
        return Ok(Box::new(Endpoint::new(endpoint.clone())));
    }
    let loaded = Arc::new(Loaded::open(&settings.model, &settings.compute)?);
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("minicrit"));
    let template = loaded.model.template.clone();
    let template = template.map(|it| it.with_isolation(Isolation::Child { program }));
    let options = RenderOptions::on(jiff::Zoned::now().date());
    let sequences = Arc::clone(&loaded);
    let new_sequence = Box::new(move || sequences.sequence());
    let name = settings.label();
    Ok(Box::new(LocalBackend::new(&name, &loaded.model, template, options, new_sequence)?))
}
