//! `--budget`: int4 or int8 for each layer, by what each is measured to cost.

use std::{io, sync::Arc};

use minicrit_engine::{
    assemble,
    budget::{self, LayerCost},
    export,
    importance::Importance,
    load::{LoadOptions, quantized_decoder},
    model::Decoder,
    quality::{self, Comparison, Reference},
    recipe::Recipe,
    source::ModelFiles,
};
use minicrit_quant::PackedKind;

use super::{report::fitting, texts::Texts};
use crate::{errors::Failure, printer};

/// Bytes by which the padding of a layer's matrices may grow: a page for each of seven.
const PADDING: u64 = 7 * 4096;

/// The recipe whose packed file has at most `bytes` and differs least from `files`.
///
/// # Errors
/// `budget-too-small`, or those of loading and of the model.
pub fn recipe(
    files: &ModelFiles,
    bytes: u64,
    texts: &Texts,
    importance: &Importance,
) -> anyhow::Result<Recipe> {
    let _progress = printer::Progress::start("measuring every layer".into());
    let mut recipe = Recipe::new(PackedKind::Q4);
    let smallest = file_bytes(files, &recipe, importance)?;
    let source = assemble::load(files, LoadOptions::default())?.decoder;
    let reference = Reference::measure(&source, &fitting(texts, source.spec.vocab_size))?;
    let [fine, coarse] = PackedKind::ALL.map(|kind| {
        let decoder = quantized_decoder(files, &Recipe::new(kind), importance)?;
        let costs = (0..decoder.layers.len())
            .map(|index| Ok(one(&reference, &source, &decoder, index)?.kl_mean));
        let costs = costs.collect::<anyhow::Result<Vec<f64>>>()?;
        let sizes: Vec<u64> = decoder.layers.iter().map(|it| it.weight_bytes() as u64).collect();
        anyhow::Ok((sizes, costs))
    });
    let ((fine_bytes, fine_kl), (coarse_bytes, coarse_kl)) = (fine?, coarse?);
    let layers: Vec<LayerCost> = (0..fine_kl.len())
        .map(|index| LayerCost {
            coarse_bytes: coarse_bytes[index],
            fine_bytes: fine_bytes[index] + PADDING,
            coarse_kl: coarse_kl[index],
            fine_kl: fine_kl[index],
        })
        .collect();
    let fixed = smallest.saturating_sub(coarse_bytes.iter().sum());
    let chosen = budget::choose(&layers, fixed, bytes).map_err(|it| {
        let least = it.least.div_ceil(100_000) as f64 / 10.0;
        let message = format!(
            "with every layer in q4 the file has {}: `--budget` of {}",
            printer::bytes(it.least),
            printer::bytes(bytes)
        );
        Failure::failed("budget-too-small", message)
            .hint(format!("pass --budget {least}MB or more, or take a smaller model"))
    })?;
    for (index, _) in chosen.iter().enumerate().filter(|(_, fine)| **fine) {
        recipe.layers.insert(index as u16, PackedKind::Q8.into());
    }
    Ok(recipe)
}

fn one(
    reference: &Reference,
    source: &Arc<Decoder>,
    rounded: &Decoder,
    index: usize,
) -> anyhow::Result<Comparison> {
    let decoder = quality::with_layer(source, index, rounded.layers[index].clone());
    Ok(reference.compare(&Arc::new(decoder))?)
}

/// The size of the file that `recipe` gives.
fn file_bytes(files: &ModelFiles, recipe: &Recipe, importance: &Importance) -> anyhow::Result<u64> {
    struct Count(u64);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    export::write_packed(files, recipe, importance, &mut count, &mut |_| {})?;
    Ok(count.0)
}
