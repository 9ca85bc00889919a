//! Which form each matrix of a model is brought into.
//!
//! It knows what a matrix does, not where its bytes lie. The head decides between tokens directly,
//! so it is kept finer than the layers; so is an embedding that serves as head. The mixes are those
//! of llama.cpp's quantizer, because files of the same name should hold the same.

use std::collections::{BTreeMap, BTreeSet};

use minicrit_quant::{Format, PackedKind, WeightFormat};

use crate::{
    adapter::{Proj, Site},
    arch::{
        self,
        names::{FfnNames, GatedNames, Names, Part},
    },
    source::ModelFiles,
    spec::{FfnSpec, ModelSpec},
};

/// What a matrix does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Token ids to vectors, and in tied models the head too.
    Embedding,
    /// A projection of a layer, or the head.
    Projection(Site),
}

impl Place {
    /// The language-model head.
    pub const HEAD: Place = Place::Projection(Site { layer: 0, expert: None, proj: Proj::Head });

    /// The layer that it belongs to, if it is one of a layer.
    pub fn layer(self) -> Option<u16> {
        match self {
            Place::Projection(site) if site.proj != Proj::Head => Some(site.layer),
            _ => None,
        }
    }
}

/// Every matrix that is quantized, with where it lies: embedding, layers in order, head. Routers
/// are not among them: they are tiny, and a rounding there sends a token to another expert.
pub fn matrices(names: &Names) -> Vec<(Place, &Part)> {
    let mut all = vec![(Place::Embedding, &names.embed)];
    for (index, layer) in names.layers.iter().enumerate() {
        let layer_idx = index as u16;
        let mut push = |expert, proj, part| {
            all.push((Place::Projection(Site { layer: layer_idx, expert, proj }), part));
        };
        let attention = [(Proj::Q, &layer.q), (Proj::K, &layer.k), (Proj::V, &layer.v)];
        for (proj, linear) in attention.into_iter().chain([(Proj::O, &layer.o)]) {
            push(None, proj, &linear.weight);
        }
        let gated: Vec<(Option<u16>, &GatedNames)> = match &layer.ffn {
            FfnNames::Dense(it) => vec![(None, &**it)],
            FfnNames::Moe { experts, .. } => {
                experts.iter().enumerate().map(|(e, it)| (Some(e as u16), it)).collect()
            }
        };
        for (expert, it) in gated {
            push(expert, Proj::Gate, &it.gate.weight);
            push(expert, Proj::Up, &it.up.weight);
            push(expert, Proj::Down, &it.down.weight);
        }
    }
    all.extend(names.head.as_ref().map(|part| (Place::HEAD, part)));
    all
}

/// A named assignment of forms to matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// One form for the layers.
    One(WeightFormat),
    /// llama.cpp's `Q4_K_M`: `q4_k`, and `q6_k` for the head and half of the value and down
    /// projections.
    Q4KM,
    /// llama.cpp's `Q5_K_M`: the same over `q5_k`.
    Q5KM,
}

impl Mix {
    /// Every mix.
    pub fn all() -> impl Iterator<Item = Mix> {
        WeightFormat::all().map(Mix::One).chain([Mix::Q4KM, Mix::Q5KM])
    }

    /// The mix of a lower-case name such as `q4`, `q6_k` or `q4_k_m`.
    pub fn named(name: &str) -> Option<Mix> {
        Mix::all().find(|it| it.name() == name)
    }

    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Mix::One(format) => format.name(),
            Mix::Q4KM => "q4_k_m",
            Mix::Q5KM => "q5_k_m",
        }
    }

    /// Whether its matrices are packed: then they are no GGUF types.
    pub const fn is_packed(self) -> bool {
        matches!(self, Mix::One(WeightFormat::Packed(_)))
    }

    /// The number that a GGUF file states as its type.
    pub(crate) const fn gguf_file_type(self) -> u32 {
        match self {
            Mix::One(WeightFormat::Stored(format)) => match format {
                Format::F32 => 0,
                Format::F16 => 1,
                Format::Q4_0 => 2,
                Format::Q4_1 => 3,
                Format::Q8_0 => 7,
                Format::Q5_0 => 8,
                Format::Q5_1 => 9,
                Format::Q4K => 14,
                Format::Q5K => 16,
                Format::Q6K => 18,
                Format::Bf16 => 32,
            },
            Mix::Q4KM => 15,
            Mix::Q5KM => 17,
            // llama.cpp's number for a file that was not told its type.
            Mix::One(WeightFormat::Packed(_)) => 1024,
        }
    }
}

impl From<WeightFormat> for Mix {
    fn from(format: WeightFormat) -> Self {
        Mix::One(format)
    }
}

impl From<PackedKind> for Mix {
    fn from(kind: PackedKind) -> Self {
        Mix::One(kind.into())
    }
}

/// What weights take in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoundedBytes {
    /// All of them.
    pub all: u64,
    /// The embedding, which decoding reads one row of unless it is the head too.
    pub embedding: u64,
}

/// A mix, and layers that depart from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// For everything that `layers` does not name.
    pub mix: Mix,
    /// The form of all matrices of a layer, by its index.
    pub layers: BTreeMap<u16, WeightFormat>,
}

impl Recipe {
    /// `mix` for every layer.
    pub fn new(mix: impl Into<Mix>) -> Self {
        Self { mix: mix.into(), layers: BTreeMap::new() }
    }

    /// Bytes of the matrices of `files` in this recipe's forms and of everything else as it is, and of
    /// the embedding alone. Uneven weights in q8 take a few per cent more.
    ///
    /// # Errors
    /// A config.json that describes no model that is run.
    pub fn weight_bytes(&self, files: &ModelFiles) -> crate::Result<RoundedBytes> {
        let spec = arch::spec_from_config(&files.config)?;
        let names = arch::names(&spec);
        let mut rounded = RoundedBytes::default();
        let mut whole = BTreeSet::new();
        for (place, part) in matrices(&names) {
            let (rows, cols) = (part.rows.len(), part.shape[1]);
            let bytes = self.format(&spec, place, cols).byte_len(rows, cols).unwrap_or(0) as u64;
            whole.insert(part.name.as_str());
            rounded.all += bytes;
            if place == Place::Embedding {
                rounded.embedding = bytes;
            }
        }
        let rest = files.tensors.iter().filter(|it| !whole.contains(it.0.as_str()));
        rounded.all += rest.map(|it| it.1.bytes.len() as u64).sum::<u64>();
        Ok(rounded)
    }

    /// The form of the matrix at `place`, whose rows have `cols` values.
    pub fn format(&self, spec: &ModelSpec, place: Place, cols: usize) -> WeightFormat {
        let by_layer = place.layer().and_then(|it| self.layers.get(&it)).copied();
        by_layer.unwrap_or_else(|| by_mix(self.mix, spec, place)).fitting(cols)
    }
}

fn by_mix(mix: Mix, spec: &ModelSpec, place: Place) -> WeightFormat {
    let is_head = match place {
        Place::Embedding => spec.tied,
        Place::Projection(site) => site.proj == Proj::Head,
    };
    let format = match mix {
        Mix::One(WeightFormat::Packed(kind)) => {
            return match place.layer() {
                Some(_) => kind.into(),
                None => PackedKind::Q8.into(),
            };
        }
        Mix::One(WeightFormat::Stored(format)) => format,
        Mix::Q4KM => mixed(Format::Q4K, spec, place),
        Mix::Q5KM => mixed(Format::Q5K, spec, place),
    };
    let finer = is_head && format.bits_per_weight() < Format::Q6K.bits_per_weight();
    if finer { Format::Q6K.into() } else { format.into() }
}

/// llama.cpp's choice for its medium mixes.
fn mixed(base: Format, spec: &ModelSpec, place: Place) -> Format {
    let Place::Projection(site) = place else { return base };
    let layer = usize::from(site.layer);
    let eight_experts =
        spec.layers.get(layer).is_some_and(|it| matches!(it.ffn, FfnSpec::Moe { experts: 8, .. }));
    match site.proj {
        Proj::K | Proj::V if eight_experts => Format::Q8_0,
        Proj::O if eight_experts => Format::Q5K,
        Proj::V | Proj::Down if has_more_bits(layer, spec.num_layers()) => Format::Q6K,
        _ => base,
    }
}

/// The first and last eighth of the layers, and every third one between.
fn has_more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for mix in Mix::all() {
            assert_eq!(Mix::named(mix.name()), Some(mix));
        }
        assert_eq!(Mix::named("q3_k"), None);
    }

    #[test]
    fn medium_mixes_favour_both_ends() {
        let favoured: Vec<usize> = (0..24).filter(|&it| has_more_bits(it, 24)).collect();
        assert_eq!(favoured, [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]);
    }
}
