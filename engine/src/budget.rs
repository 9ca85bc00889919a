//! Which layers to keep finer, so that a file of a given size differs least from its source.

/// What a layer costs in each of two forms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerCost {
    /// Bytes in the coarse form.
    pub coarse_bytes: u64,
    /// Bytes in the fine form.
    pub fine_bytes: u64,
    /// Divergence that the coarse form alone brings.
    pub coarse_kl: f64,
    /// Divergence that the fine form alone brings.
    pub fine_kl: f64,
}

/// The smallest file is larger than the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSmall {
    /// Bytes with every layer in the coarse form.
    pub least: u64,
}

/// Whether each layer is kept fine. Layers get finer in the order of divergence saved for a byte,
/// each that still fits into `budget` bytes beside `fixed_bytes`.
///
/// # Errors
/// [`TooSmall`] where even the coarse forms do not fit.
pub fn choose(
    layers: &[LayerCost],
    fixed_bytes: u64,
    budget: u64,
) -> std::result::Result<Vec<bool>, TooSmall> {
    let least = fixed_bytes + layers.iter().map(|it| it.coarse_bytes).sum::<u64>();
    let Some(mut left) = budget.checked_sub(least) else { return Err(TooSmall { least }) };
    let more = |it: &LayerCost| it.fine_bytes.saturating_sub(it.coarse_bytes);
    let gain = |it: &LayerCost| (it.coarse_kl - it.fine_kl) / more(it).max(1) as f64;
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by(|&a, &b| gain(&layers[b]).total_cmp(&gain(&layers[a])).then(a.cmp(&b)));
    let mut fine = vec![false; layers.len()];
    for index in order {
        let layer = &layers[index];
        if gain(layer) > 0.0 && more(layer) <= left {
            left -= more(layer);
            fine[index] = true;
        }
    }
    Ok(fine)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn layer(coarse_kl: f64) -> LayerCost {
        LayerCost { coarse_bytes: 10, fine_bytes: 18, coarse_kl, fine_kl: 0.001 }
    }

    #[test]
    fn the_worst_layers_get_the_bytes() {
        let layers = [layer(0.01), layer(0.5), layer(0.1), layer(0.0001)];
        assert_eq!(choose(&layers, 5, 45).unwrap(), [false; 4]);
        assert_eq!(choose(&layers, 5, 52).unwrap(), [false; 4]);
        assert_eq!(choose(&layers, 5, 53).unwrap(), [false, true, false, false]);
        assert_eq!(choose(&layers, 5, 62).unwrap(), [false, true, true, false]);
        // The last one is better off as it is.
        assert_eq!(choose(&layers, 5, 1000).unwrap(), [true, true, true, false]);
        assert_eq!(choose(&layers, 5, 44).unwrap_err(), TooSmall { least: 45 });
    }
}
