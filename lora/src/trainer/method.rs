//! What is minimised on which data, and the slope of it by each row's log-probability.

use minicrit_engine::adapter::Adapter;

use super::{Learner, batch::Packed, fused, head, head::Want, layerwise};
use crate::{
    Result,
    data::{Dataset, LabelledExample, PreferenceExample, SupervisedExample},
    lora::Lora,
    losses::{Kto, Pair, PairLoss, Sums},
};

/// A method of training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// The mean negative log-likelihood of the weighted tokens of a step.
    Sft,
    /// A loss of preferred and rejected answers.
    Pairs(PairLoss),
    /// A loss of single labelled answers.
    Kto(Kto),
}

impl Method {
    /// Whether log-probabilities under a reference are needed.
    pub fn needs_reference(&self) -> bool {
        match self {
            Method::Sft => false,
            Method::Pairs(loss) => loss.needs_reference(),
            Method::Kto(_) => true,
        }
    }

    /// What the loss of a step is divided by.
    pub(super) fn total(&self, data: &TrainingData, examples: &[usize]) -> f64 {
        match (self, data) {
            (Method::Sft, TrainingData::Supervised(data)) => {
                examples.iter().map(|&it| data.examples()[it].weight()).sum()
            }
            _ => examples.len() as f64,
        }
    }
}

/// Examples of the kind that a method needs.
#[derive(Debug, Clone)]
pub enum TrainingData {
    /// For SFT.
    Supervised(Dataset<SupervisedExample>),
    /// For pairs.
    Preference(Dataset<PreferenceExample>),
    /// For KTO.
    Labelled(Dataset<LabelledExample>),
}

impl TrainingData {
    /// Number of examples.
    pub fn len(&self) -> usize {
        match self {
            Self::Supervised(it) => it.len(),
            Self::Preference(it) => it.len(),
            Self::Labelled(it) => it.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A hash of everything in it.
    pub fn content_hash(&self) -> blake3::Hash {
        match self {
            Self::Supervised(it) => it.content_hash(),
            Self::Preference(it) => it.content_hash(),
            Self::Labelled(it) => it.content_hash(),
        }
    }

    /// Tokens of all examples.
    pub fn num_tokens(&self) -> usize {
        match self {
            Self::Supervised(it) => it.num_tokens(),
            Self::Preference(it) => it.num_tokens(),
            Self::Labelled(it) => it.num_tokens(),
        }
    }

    /// Sum of the weights of all tokens.
    pub fn weight(&self) -> f64 {
        match self {
            Self::Supervised(it) => it.weight(),
            Self::Preference(it) => it.weight(),
            Self::Labelled(it) => it.weight(),
        }
    }

    /// The token sequences of `examples`: one each, or preferred and rejected.
    pub fn sequences(&self, examples: &[usize]) -> Vec<&SupervisedExample> {
        match self {
            Self::Supervised(it) => examples.iter().map(|&i| &it.examples()[i]).collect(),
            Self::Preference(it) => {
                let pair = |&i: &usize| [&it.examples()[i].chosen, &it.examples()[i].rejected];
                examples.iter().flat_map(pair).collect()
            }
            Self::Labelled(it) => examples.iter().map(|&i| &it.examples()[i].answer).collect(),
        }
    }

    /// Lines of `examples` in their files.
    pub fn lines(&self, examples: &[usize]) -> Vec<u64> {
        let mut lines: Vec<u64> = self.sequences(examples).iter().map(|it| it.line).collect();
        lines.dedup();
        lines
    }
}

/// Sums over the examples of a step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rewards {
    /// Implicit reward of preferred (or good) answers.
    pub chosen: f64,
    /// That of rejected (or bad) ones.
    pub rejected: f64,
    /// Share of pairs whose preferred answer has the higher reward.
    pub accuracy: f64,
    count: f64,
}

impl Rewards {
    pub(super) fn add(&mut self, other: &Self) {
        self.chosen += other.chosen;
        self.rejected += other.rejected;
        self.accuracy += other.accuracy;
        self.count += other.count;
    }

    /// Means, where there were pairs.
    pub(super) fn mean(self) -> Option<Self> {
        let Self { chosen, rejected, accuracy, count } = self;
        (count > 0.0).then(|| Self {
            chosen: chosen / count,
            rejected: rejected / count,
            accuracy: accuracy / count,
            count,
        })
    }
}

/// A pass's share of the loss, and its slope by each row's log-probability.
pub struct Slopes {
    pub loss: f64,
    pub rows: Vec<f32>,
    pub rewards: Rewards,
}

/// The loss of a pass divided by `total`, and its slopes, from the rows' log-probabilities.
/// `reference` holds the sums of each sequence under the reference.
#[allow(clippy::too_many_arguments)]
pub fn slopes(
    method: Method,
    data: &TrainingData,
    examples: &[usize],
    packed: &Packed,
    log_probs: &[f32],
    reference: &[f64],
    divergence: f64,
    total: f64,
) -> Result<Slopes> {
    let sums = packed.sums(log_probs);
    let mut rewards = Rewards::default();
    let (loss, by_sequence): (f64, Vec<f64>) = match method {
        Method::Sft => {
            let loss: f64 = sums.iter().map(|it| -it.sum).sum();
            (loss, vec![-1.0; sums.len()])
        }
        Method::Pairs(pair_loss) => {
            let (mut loss, mut slopes) = (0.0, Vec::with_capacity(sums.len()));
            for (index, pair) in sums.chunks_exact(2).enumerate() {
                let reference = match reference.get(2 * index..2 * index + 2) {
                    Some(&[chosen, rejected]) => [chosen, rejected],
                    _ => [0.0; 2],
                };
                let outcome = pair_loss.of(&Pair { chosen: pair[0], rejected: pair[1], reference });
                loss += outcome.loss;
                slopes.extend([outcome.d_chosen, outcome.d_rejected]);
                rewards.chosen += outcome.reward_chosen;
                rewards.rejected += outcome.reward_rejected;
                rewards.accuracy +=
                    f64::from(u8::from(outcome.reward_chosen > outcome.reward_rejected));
                rewards.count += 1.0;
            }
            (loss, slopes)
        }
        Method::Kto(kto) => {
            let (mut loss, mut slopes) = (0.0, Vec::with_capacity(sums.len()));
            for ((it, reference), &example) in sums.iter().zip(reference).zip(examples) {
                let good = matches!(data, TrainingData::Labelled(data) if data.examples()[example].desirable);
                let outcome = kto.of(it.sum - reference, divergence, good);
                loss += outcome.loss;
                slopes.push(outcome.slope);
            }
            (loss, slopes)
        }
    };
    let rows = packed.weights.iter().zip(&packed.sequence);
    let rows = rows.map(|(&weight, &it)| (by_sequence[it] * f64::from(weight) / total) as f32);
    Ok(Slopes { loss: loss / total, rows: rows.collect(), rewards })
}

/// KTO's estimate of how far the model is from its reference: the mean log-ratio of answers to
/// prompts that they do not belong to, at least 0. Other methods have none.
pub(super) fn divergence(
    learner: &Learner,
    method: Method,
    data: &TrainingData,
    examples: &[usize],
) -> Result<f64> {
    let (Method::Kto(_), TrainingData::Labelled(data)) = (method, data) else { return Ok(0.0) };
    if examples.len() < 2 {
        return Ok(0.0);
    }
    let others = examples.iter().skip(1).chain(examples.first());
    let mismatched: Vec<SupervisedExample> = examples
        .iter()
        .zip(others)
        .map(|(&prompt, &answer)| {
            let (of_prompt, of_answer) = (&data.examples()[prompt], &data.examples()[answer]);
            let split = of_answer.prompt_len;
            let prompt = &of_prompt.answer.ids[..of_prompt.prompt_len];
            let ids = [prompt, &of_answer.answer.ids[split..]].concat();
            let weights =
                [vec![0.0; prompt.len()], of_answer.answer.weights[split..].to_vec()].concat();
            SupervisedExample { ids, weights, line: of_prompt.answer.line }
        })
        .collect();
    let packed = Packed::new(mismatched.iter().collect());
    let under = |lora| -> Result<Vec<Sums>> { sums_under(learner, lora, &packed) };
    let (model, reference) = (under(learner.lora.as_ref())?, under(learner.reference_lora())?);
    let ratios = model.iter().zip(&reference).map(|(a, b)| a.sum - b.sum);
    Ok((ratios.sum::<f64>() / model.len() as f64).max(0.0))
}

/// Sums of the sequences of `packed` under an adapter, without gradients.
pub(super) fn sums_under(
    learner: &Learner,
    lora: Option<&Lora>,
    packed: &Packed,
) -> Result<Vec<Sums>> {
    Ok(packed.sums(&values_under(learner, lora, packed)?))
}

/// Log-probabilities of the tokens of `packed` that carry loss, under an adapter, by the arithmetic
/// that the learner trains with.
pub(super) fn values_under(
    learner: &Learner,
    lora: Option<&Lora>,
    packed: &Packed,
) -> Result<Vec<f32>> {
    if learner.is_fused() {
        let mut buffers = fused::Buffers::default();
        let pass = fused::Forward::run(learner, lora, packed, &mut buffers, false)?;
        return Ok(pass.log_probs(packed, false)?.0);
    }
    let adapter = lora.map(|it| it as &dyn Adapter);
    let kept = layerwise::forward(learner, adapter, packed, false)?;
    let rows_rd = kept.rows(packed)?;
    Ok(head::log_probs(learner, adapter, packed, &rows_rd, Want::Values)?.0)
}
