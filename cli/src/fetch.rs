//! The only way from a command to the network: fetching a model that the user named.

use minicrit_hub::pull::{self, Event, Pulled};

use crate::{
    args::PullWhen,
    env::Environment,
    model::{HubModel, ModelRef},
    printer,
    pull_bars::Bars,
};

/// Fetches those of these models that are not here, if the user wants that.
///
/// # Errors
/// Those of pulling; a model that is not here stays for whoever opens it to name.
pub fn missing(
    models: &[&ModelRef],
    when: PullWhen,
    quiet: bool,
    environment: &Environment,
) -> anyhow::Result<()> {
    if when == PullWhen::Never {
        return Ok(());
    }
    for model in models {
        if let ModelRef::Hub(model) = model
            && model.found().is_none()
        {
            pull(model, quiet, environment)?;
        }
    }
    Ok(())
}

/// Fetches what is missing of a model, with bars where somebody sees them.
///
/// # Errors
/// Those of the hub, the network and the disk.
pub fn pull(model: &HubModel, quiet: bool, environment: &Environment) -> anyhow::Result<Pulled> {
    if !quiet && !model.hub.offline {
        printer::note(&format!("pulling {} from {}", model.reference, model.hub.endpoint));
    }
    let bars = Bars::new(!quiet && !environment.hub.no_bars && printer::stderr_is_terminal());
    let observe = |event: Event<'_>| {
        bars.show(&event);
        if let Event::Planned { listing, missing } = &event
            && !quiet
        {
            let files = listing.files.len();
            let missing = printer::bytes(*missing);
            printer::note(&format!("{files} files, {missing} to fetch"));
        }
    };
    let pulled = pull::pull(&model.hub, &model.reference, &observe)?;
    bars.finish();
    Ok(pulled)
}
