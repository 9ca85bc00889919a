//! The model that is part of the program.

use std::collections::BTreeMap;

use minicrit_quant::Bytes;

use super::{ModelFiles, Result, json, safetensors};

const ORIGIN: &str = "built-in model";
const CONFIG: &[u8] = include_bytes!("../../../models/nano/config.json");
const GENERATION_CONFIG: &[u8] = include_bytes!("../../../models/nano/generation_config.json");
const TOKENIZER: &[u8] = include_bytes!("../../../models/nano/tokenizer.json");
const TOKENIZER_CONFIG: &[u8] = include_bytes!("../../../models/nano/tokenizer_config.json");
static WEIGHTS: &[u8] = include_bytes!("../../../models/nano/model.safetensors");

/// The same reading as for a folder, so that a broken build is named and not undefined.
pub(super) fn open() -> Result<ModelFiles> {
    let object = |name: &str, bytes: &[u8]| json::parse_object(&format!("{ORIGIN}/{name}"), bytes);
    let tokenizer_config = object("tokenizer_config.json", TOKENIZER_CONFIG)?;
    Ok(ModelFiles {
        origin: ORIGIN.to_owned(),
        config: object("config.json", CONFIG)?,
        tensors: safetensors::parse(
            &format!("{ORIGIN}/model.safetensors"),
            Bytes::from_static(WEIGHTS),
        )?,
        packed: BTreeMap::new(),
        tokenizer: Some(TOKENIZER.to_vec()),
        chat_template: tokenizer_config["chat_template"].as_str().map(ToOwned::to_owned),
        tokenizer_config: Some(tokenizer_config),
        generation_config: Some(object("generation_config.json", GENERATION_CONFIG)?),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_model_is_complete() {
        let files = open().unwrap();
        assert!(files.tensors.contains_key("model.embed_tokens.weight"));
        assert!(files.config["model_type"].is_string());
        assert!(files.chat_template.is_some());
    }
}
