//! What tells one base model from another, however its matrices are stored.

use minicrit_engine::{Result, model::Decoder};

/// A hash of a model's shape and of the gains of its norms. Quantizing a model or converting it to
/// GGUF leaves the gains as they are, so the same model in another format has the same hash; a
/// model that was trained further does not.
///
/// # Errors
/// What reading a tensor gives.
pub fn fingerprint(decoder: &Decoder) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let spec = &decoder.spec;
    let shape = format!(
        "{} {} {:?} {} {} {}",
        spec.family,
        spec.hidden,
        spec.heads,
        spec.vocab_size,
        spec.num_layers(),
        spec.num_parameters()
    );
    hasher.update(shape.as_bytes());
    let layers = decoder.layers.iter().flat_map(|it| [&it.attention_norm, &it.ffn_norm]);
    for norm in layers.chain([&decoder.norm]) {
        for gain in norm.gain.to_vec1::<f32>()? {
            hasher.update(&gain.to_le_bytes());
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}
