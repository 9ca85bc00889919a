//! The linear layers of a model under the names that adapters know them by: the path of the module
//! in Hugging Face's model, such as `model.layers.0.self_attn.q_proj`.
//!
//! One module may be several of the engine's projections: Phi-3 keeps queries, keys and values in
//! one matrix, and an adapter of `qkv_proj` changes all three.

use std::ops::Range;

use minicrit_engine::{
    adapter::{Proj, Site},
    arch::{
        self,
        names::{FfnNames, GatedNames, LinearNames, Part},
    },
    spec::ModelSpec,
};

/// Path of the language-model head.
pub const HEAD: &str = "lm_head";
/// Path of the embedding.
pub const EMBED: &str = "model.embed_tokens";

/// One linear layer as a file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Path, such as `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// Rows of the whole matrix.
    pub outputs: usize,
    /// Columns.
    pub inputs: usize,
    /// Its layer; none for the head.
    pub layer: Option<usize>,
    /// The engine's projections in it, each with its rows.
    pub sites: Vec<(Site, Range<usize>)>,
}

/// Every linear layer of a model that an adapter may change, in order of layers; the head is last.
/// Routers of mixtures are not among them: a rounding there sends a token to another expert.
pub fn modules(spec: &ModelSpec) -> Vec<Module> {
    let names = arch::names(spec);
    let mut modules: Vec<Module> = Vec::new();
    let mut place = |layer: usize, expert: Option<u16>, proj: Proj, part: &Part| {
        let site = Site { layer: layer as u16, expert, proj };
        let path = part.name.strip_suffix(".weight").unwrap_or(&part.name);
        match modules.iter_mut().rev().take(8).find(|it| it.path == path) {
            Some(module) => module.sites.push((site, part.rows.clone())),
            None => modules.push(Module {
                path: path.to_string(),
                outputs: part.shape[0],
                inputs: part.shape[1],
                layer: Some(layer),
                sites: vec![(site, part.rows.clone())],
            }),
        }
    };
    for (index, layer) in names.layers.iter().enumerate() {
        let attention: [(Proj, &LinearNames); 4] =
            [(Proj::Q, &layer.q), (Proj::K, &layer.k), (Proj::V, &layer.v), (Proj::O, &layer.o)];
        for (proj, linear) in attention {
            place(index, None, proj, &linear.weight);
        }
        let mut gated = |expert: Option<u16>, names: &GatedNames| {
            place(index, expert, Proj::Gate, &names.gate.weight);
            place(index, expert, Proj::Up, &names.up.weight);
            place(index, expert, Proj::Down, &names.down.weight);
        };
        match &layer.ffn {
            FfnNames::Dense(names) => gated(None, names),
            FfnNames::Moe { experts, .. } => {
                for (e, names) in experts.iter().enumerate() {
                    gated(Some(e as u16), names);
                }
            }
        }
    }
    let site = Site { layer: 0, expert: None, proj: Proj::Head };
    modules.push(Module {
        path: HEAD.to_string(),
        outputs: spec.vocab_size,
        inputs: spec.hidden,
        layer: None,
        sites: vec![(site, 0..spec.vocab_size)],
    });
    modules
}
