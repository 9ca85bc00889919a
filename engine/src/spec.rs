//! What a model is, as data: everything in which the families differ.
//!
//! A [`ModelSpec`] is made by [`crate::arch`] from a config.json and read by [`crate::model`]. It
//! knows no files and no tensor names.

/// Shape and habits of one decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// Family name as config.json spells it (`qwen3`, `llama`, ...).
    pub family: &'static str,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Bias vectors that the projections carry.
    pub biases: Biases,
    /// Whether queries and keys are normed per head before rotation.
    pub qk_norm: bool,
    /// Epsilon of every norm.
    pub norm_eps: f32,
    /// Rotary position embedding.
    pub rope: RopeSpec,
    /// One entry for each layer.
    pub layers: Vec<LayerSpec>,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Most positions that the model was made for.
    pub context_len: usize,
    /// Whether the head is the embedding.
    pub tied: bool,
}

/// Attention heads of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads, a divisor of the query heads.
    pub kv: usize,
    /// Width of one head.
    pub dim: usize,
}

/// Which projections have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// Attention output.
    pub out: bool,
    /// The three matrices of a dense feed-forward block.
    pub ffn: bool,
}

/// What may differ from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSpec {
    /// Sliding window: position `i` sees `i + 1 - window ..= i`. `None` sees everything before it.
    pub window: Option<usize>,
    /// Feed-forward block.
    pub ffn: FfnSpec,
}

/// A feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FfnSpec {
    /// One gated block.
    Dense {
        /// Inner width.
        inner: usize,
    },
    /// A mixture of gated blocks.
    Moe {
        /// Number of experts.
        experts: usize,
        /// Experts that a token visits.
        per_token: usize,
        /// Inner width of an expert.
        inner: usize,
        /// Whether the chosen experts' weights are scaled to sum to one.
        normalize: bool,
    },
}

/// Rotary position embedding of the first `dim` values of each head.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Values of a head that rotate, even.
    pub dim: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// How the frequencies are changed for long contexts.
    pub scaling: RopeScaling,
}

/// The forms of rope scaling that exist in the wild, named as `rope_type` in config.json.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// `default`.
    None,
    /// `linear`: positions divided by `factor`.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// `dynamic` (NTK): the base grows with the sequence once it is longer than `original`.
    Dynamic {
        /// Scale at `original`.
        factor: f64,
        /// Length up to which nothing changes.
        original: usize,
    },
    /// `llama3`: low frequencies divided, with a smooth passage.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low: f64,
        /// Wavelengths below `original / high` stay.
        high: f64,
        /// Context of the first training.
        original: usize,
    },
    /// `yarn` (Peng et al. 2023).
    Yarn {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Context of the first training.
        original: usize,
        /// Rotations above which a dimension stays.
        beta_fast: f64,
        /// Rotations below which a dimension is divided.
        beta_slow: f64,
        /// Whether the passage starts and ends at whole dimensions.
        truncate: bool,
        /// Factor on cosines and sines.
        attention_factor: f64,
    },
    /// `longrope`: divisors for each frequency, one list for short sequences, one for long ones.
    LongRope {
        /// Divisors up to `original` positions.
        short: Vec<f64>,
        /// Divisors for longer sequences.
        long: Vec<f64>,
        /// Where long begins.
        original: usize,
        /// Factor on cosines and sines.
        attention_factor: f64,
    },
    /// Divisors for each frequency, as GGUF's `rope_freqs` tensor gives them.
    Divisors(Vec<f64>),
}

/// The state of a rope whose frequencies depend on the length of the sequence. Keys that were
/// rotated in one regime can't be used in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RopeRegime(pub usize);

impl RopeSpec {
    /// The regime for a sequence of `total` tokens: a function of its length alone, so that the
    /// same tokens give the same bits however they were fed.
    pub fn regime(&self, total: usize) -> RopeRegime {
        RopeRegime(match self.scaling {
            RopeScaling::Dynamic { original, .. } if total > original => total,
            RopeScaling::LongRope { original, .. } if total > original => 1,
            _ => 0,
        })
    }
}

impl ModelSpec {
    /// Number of layers.
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }

    /// Most tokens that a sequence may hold: the context that the model was made for, but for
    /// dynamic ropes, whose base grows with the sequence so that it has no end.
    pub fn max_tokens(&self) -> usize {
        match self.rope.scaling {
            RopeScaling::Dynamic { .. } => usize::MAX >> 1,
            _ => self.context_len,
        }
    }

    /// Bytes that one position takes in the cache.
    pub fn cache_bytes_per_token(&self) -> usize {
        self.num_layers() * 2 * self.heads.kv * self.heads.dim * size_of::<f32>()
    }

    /// Number of weights, embedding and head counted once where they are tied.
    pub fn num_parameters(&self) -> usize {
        let Heads { query, kv, dim } = self.heads;
        let attention = self.hidden * dim * (2 * query + 2 * kv)
            + usize::from(self.biases.qkv) * dim * (query + 2 * kv)
            + usize::from(self.biases.out) * self.hidden
            + usize::from(self.qk_norm) * 2 * dim;
        let layers: usize = self
            .layers
            .iter()
            .map(|layer| {
                let ffn = match layer.ffn {
                    FfnSpec::Dense { inner } => {
                        3 * self.hidden * inner
                            + usize::from(self.biases.ffn) * (2 * inner + self.hidden)
                    }
                    FfnSpec::Moe { experts, inner, .. } => {
                        experts * (3 * self.hidden * inner + self.hidden)
                    }
                };
                attention + ffn + 2 * self.hidden
            })
            .sum();
        let embeddings = if self.tied { 1 } else { 2 };
        layers + self.hidden + embeddings * self.vocab_size * self.hidden
    }
}
