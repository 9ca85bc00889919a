//! Where each weight of a decoder lies in a file with Hugging Face names.

use std::{collections::BTreeMap, ops::Range};

use crate::spec::{FfnSpec, Heads, ModelSpec};

/// A stretch of rows of a stored tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Full name of the tensor.
    pub name: String,
    /// Full shape of the tensor.
    pub shape: Vec<usize>,
    /// The rows that are meant (elements, for a vector).
    pub rows: Range<usize>,
}

impl Part {
    /// A whole matrix of `rows` outputs and `cols` inputs.
    pub fn matrix(name: impl Into<String>, rows: usize, cols: usize) -> Self {
        Self { name: name.into(), shape: vec![rows, cols], rows: 0..rows }
    }

    /// A whole vector.
    pub fn vector(name: impl Into<String>, len: usize) -> Self {
        Self { name: name.into(), shape: vec![len], rows: 0..len }
    }

    /// What packed files call it: the tensor's name, with the rows where it is not the whole.
    pub fn key(&self) -> String {
        match self.shape.first() {
            Some(&rows) if self.rows == (0..rows) => self.name.clone(),
            _ => format!("{}[{}..{}]", self.name, self.rows.start, self.rows.end),
        }
    }

    /// Only `rows` of it.
    pub fn rows(mut self, rows: Range<usize>) -> Self {
        self.rows = rows;
        self
    }
}

/// A linear layer: its matrix and, where there is one, its bias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearNames {
    /// The matrix.
    pub weight: Part,
    /// The bias.
    pub bias: Option<Part>,
}

/// The three matrices of a gated feed-forward block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatedNames {
    /// Gate.
    pub gate: LinearNames,
    /// Up.
    pub up: LinearNames,
    /// Down.
    pub down: LinearNames,
}

/// A feed-forward block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FfnNames {
    /// One block.
    Dense(Box<GatedNames>),
    /// A router and its experts.
    Moe {
        /// Router.
        router: LinearNames,
        /// Experts in order.
        experts: Vec<GatedNames>,
    },
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerNames {
    /// Norm before attention.
    pub attention_norm: Part,
    /// Queries.
    pub q: LinearNames,
    /// Keys.
    pub k: LinearNames,
    /// Values.
    pub v: LinearNames,
    /// Attention output.
    pub o: LinearNames,
    /// Norms of queries and keys.
    pub qk_norm: Option<(Part, Part)>,
    /// Norm before the feed-forward block.
    pub ffn_norm: Part,
    /// Feed-forward block.
    pub ffn: FfnNames,
}

/// A whole decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Embedding.
    pub embed: Part,
    /// Layers in order.
    pub layers: Vec<LayerNames>,
    /// Last norm.
    pub norm: Part,
    /// Head; `None` where it is the embedding.
    pub head: Option<Part>,
}

impl Names {
    /// Every tensor that must be there, with its shape.
    pub fn expected(&self) -> BTreeMap<&str, &[usize]> {
        let mut parts = vec![&self.embed, &self.norm];
        parts.extend(&self.head);
        for layer in &self.layers {
            parts.extend([&layer.attention_norm, &layer.ffn_norm]);
            parts.extend(layer.qk_norm.iter().flat_map(|(q, k)| [q, k]));
            let mut linears = vec![&layer.q, &layer.k, &layer.v, &layer.o];
            match &layer.ffn {
                FfnNames::Dense(it) => linears.extend([&it.gate, &it.up, &it.down]),
                FfnNames::Moe { router, experts } => {
                    linears.push(router);
                    linears.extend(experts.iter().flat_map(|it| [&it.gate, &it.up, &it.down]));
                }
            }
            for linear in linears {
                parts.push(&linear.weight);
                parts.extend(&linear.bias);
            }
        }
        parts.into_iter().map(|it| (it.name.as_str(), it.shape.as_slice())).collect()
    }
}

/// A linear layer `path.weight`, with `path.bias` where `bias`.
pub fn linear(path: &str, rows: usize, cols: usize, bias: bool) -> LinearNames {
    LinearNames {
        weight: Part::matrix(format!("{path}.weight"), rows, cols),
        bias: bias.then(|| Part::vector(format!("{path}.bias"), rows)),
    }
}

/// A gated block with `names` for gate, up and down.
pub fn gated(path: &str, names: [&str; 3], inner: usize, hidden: usize, bias: bool) -> GatedNames {
    let [gate, up, down] = names;
    GatedNames {
        gate: linear(&format!("{path}.{gate}"), inner, hidden, bias),
        up: linear(&format!("{path}.{up}"), inner, hidden, bias),
        down: linear(&format!("{path}.{down}"), hidden, inner, bias),
    }
}

/// The names that most families share.
pub fn usual(spec: &ModelSpec) -> Names {
    let layers = (0..spec.num_layers()).map(|i| usual_layer(spec, i)).collect();
    let head = Part::matrix("lm_head.weight", spec.vocab_size, spec.hidden);
    Names {
        embed: Part::matrix("model.embed_tokens.weight", spec.vocab_size, spec.hidden),
        layers,
        norm: Part::vector("model.norm.weight", spec.hidden),
        head: (!spec.tied).then_some(head),
    }
}

fn usual_layer(spec: &ModelSpec, i: usize) -> LayerNames {
    let path = format!("model.layers.{i}");
    let Heads { query, kv, dim } = spec.heads;
    let attention = |name: &str, rows, cols, bias| {
        linear(&format!("{path}.self_attn.{name}"), rows, cols, bias)
    };
    let norm = |name: &str, len| Part::vector(format!("{path}.{name}.weight"), len);
    let projections = ["gate_proj", "up_proj", "down_proj"];
    let ffn = match spec.layers[i].ffn {
        FfnSpec::Dense { inner } => {
            let path = format!("{path}.mlp");
            FfnNames::Dense(Box::new(gated(
                &path,
                projections,
                inner,
                spec.hidden,
                spec.biases.ffn,
            )))
        }
        FfnSpec::Moe { experts, inner, .. } => FfnNames::Moe {
            router: linear(&format!("{path}.mlp.gate"), experts, spec.hidden, false),
            experts: (0..experts)
                .map(|e| {
                    let path = format!("{path}.mlp.experts.{e}");
                    gated(&path, projections, inner, spec.hidden, false)
                })
                .collect(),
        },
    };
    LayerNames {
        attention_norm: norm("input_layernorm", spec.hidden),
        q: attention("q_proj", query * dim, spec.hidden, spec.biases.qkv),
        k: attention("k_proj", kv * dim, spec.hidden, spec.biases.qkv),
        v: attention("v_proj", kv * dim, spec.hidden, spec.biases.qkv),
        o: attention("o_proj", spec.hidden, query * dim, spec.biases.out),
        qk_norm: spec
            .qk_norm
            .then(|| (norm("self_attn.q_norm", dim), norm("self_attn.k_norm", dim))),
        ffn_norm: norm("post_attention_layernorm", spec.hidden),
        ffn,
    }
}
