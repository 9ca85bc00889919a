//! Several adapters to one.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Factors, Matrix, Pair,
    sparse::{drop_at_random, elect, keep_largest, sum},
};
use crate::{LoraError, Result};

/// How changes are combined.
///
/// Only [`Combination::Cat`] gives the weighted sum of what the adapters do. The others combine the
/// factors `A` and `B` apart, as PEFT's `add_weighted_adapter` does under the same names, so their
/// products have cross terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Combination {
    /// Exactly the weighted sum of the changes; ranks add up.
    Cat,
    /// Weighted sums of the factors.
    Linear,
    /// The largest values of each, and of these the ones that agree in sign (TIES).
    Ties {
        /// Share of values that is kept.
        density: f64,
    },
    /// Random values of each, scaled up, then their weighted sums (DARE).
    DareLinear {
        /// Share of values that is kept.
        density: f64,
        /// Seed of the choice.
        seed: u64,
    },
    /// Random values of each, scaled up, and of these the ones that agree in sign.
    DareTies {
        /// Share of values that is kept.
        density: f64,
        /// Seed of the choice.
        seed: u64,
    },
}

/// Combines adapters, each with its weight. A module that only some of them change is combined from
/// those.
///
/// # Errors
/// `bad-merge` with every module whose shapes or ranks do not fit together.
pub fn combine(adapters: &[(Factors, f64)], how: Combination) -> Result<Factors> {
    let Some((first, _)) = adapters.first() else {
        return Err(LoraError::Merge { problems: vec!["there is no adapter".into()] });
    };
    let paths: BTreeSet<&String> = adapters.iter().flat_map(|(it, _)| it.pairs.keys()).collect();
    let mut problems = Vec::new();
    let mut pairs = BTreeMap::new();
    for (number, path) in paths.into_iter().enumerate() {
        let parts: Vec<(&Pair, f64)> = adapters
            .iter()
            .filter_map(|(it, weight)| Some((it.pairs.get(path)?, *weight)))
            .collect();
        let shapes = |it: &Pair| (it.a.cols, it.b.rows);
        if parts.iter().any(|it| shapes(it.0) != shapes(parts[0].0)) {
            problems.push(format!("`{path}` has other shapes in each: the bases differ"));
            continue;
        }
        let same_rank = parts.iter().all(|it| it.0.rank() == parts[0].0.rank());
        if how != Combination::Cat && !same_rank {
            problems.push(format!("`{path}` has other ranks in each: only cat combines these"));
            continue;
        }
        let pair = match how {
            Combination::Cat => cat(&parts),
            _ => by_factors(&parts, how, number as u64),
        };
        pairs.insert(path.clone(), pair);
    }
    match problems.is_empty() {
        true => Ok(Factors::new("merged", pairs, &first.config)),
        false => Err(LoraError::Merge { problems }),
    }
}

/// `A` one below the other, `B` side by side and multiplied by weight and scale.
fn cat(parts: &[(&Pair, f64)]) -> Pair {
    let rank = parts.iter().map(|it| it.0.rank()).sum();
    let (inputs, outputs) = (parts[0].0.a.cols, parts[0].0.b.rows);
    let a = parts.iter().flat_map(|it| it.0.a.values.iter().copied()).collect();
    let mut b = Vec::with_capacity(outputs * rank);
    for row in 0..outputs {
        for (pair, weight) in parts {
            let factor = weight * f64::from(pair.scale);
            let values = &pair.b.values[row * pair.rank()..(row + 1) * pair.rank()];
            b.extend(values.iter().map(|it| (f64::from(*it) * factor) as f32));
        }
    }
    Pair {
        a: Matrix { rows: rank, cols: inputs, values: a },
        b: Matrix { rows: outputs, cols: rank, values: b },
        scale: 1.0,
    }
}

/// Both factors, each on its own. A weight goes into both by its root, its sign into `A`.
fn by_factors(parts: &[(&Pair, f64)], how: Combination, number: u64) -> Pair {
    let roots: Vec<(f64, f64)> = parts
        .iter()
        .map(|(pair, weight)| {
            let weight = weight * f64::from(pair.scale);
            (weight.abs().sqrt() * if weight < 0.0 { -1.0 } else { 1.0 }, weight.abs().sqrt())
        })
        .collect();
    let combined = |factor: fn(&Pair) -> &Matrix, weights: Vec<f64>, side: u64| {
        let mut all: Vec<Vec<f32>> = parts.iter().map(|it| factor(it.0).values.clone()).collect();
        for (index, values) in all.iter_mut().enumerate() {
            let tensor = (2 * number + side) * parts.len() as u64 + index as u64;
            match how {
                Combination::Ties { density } => keep_largest(values, density),
                Combination::DareLinear { density, seed }
                | Combination::DareTies { density, seed } => {
                    drop_at_random(values, density, seed, tensor);
                }
                Combination::Cat | Combination::Linear => {}
            }
        }
        let values = match how {
            Combination::Ties { .. } | Combination::DareTies { .. } => elect(&all, &weights),
            _ => sum(&all, &weights),
        };
        Matrix { values, ..*factor(parts[0].0) }
    };
    let (for_a, for_b): (Vec<f64>, Vec<f64>) = roots.into_iter().unzip();
    let a = combined(|it| &it.a, for_a, 0);
    let b = combined(|it| &it.b, for_b, 1);
    Pair { a, b, scale: 1.0 }
}
