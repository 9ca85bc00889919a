//! The loop: draft, feed, judge, emit, forget.

use std::{collections::VecDeque, time::Instant};

use super::{
    Event, FinishReason, Finished, GenerateOptions, Session, Speculation, Timings, text::TextStream,
};
use crate::{
    Result,
    dist::{self, Dist, History},
    draft::Draft,
    language_model::Logits,
    rng::Rng,
    speculate::verify,
    think::Piece,
};

/// An answer under way. Dropping it cancels: the session then holds the tokens that were given,
/// and none besides.
pub struct Generation<'a> {
    session: &'a mut Session,
    options: GenerateOptions,
    text: TextStream,
    queue: VecDeque<Event>,
    prompt_tokens: usize,
    reused_tokens: usize,
    generated_tokens: usize,
    speculation: Speculation,
    clock: Clock,
    ended: bool,
}

impl Iterator for Generation<'_> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                // Only what was handed out counts as said.
                if let Event::Token { id, .. } = event {
                    self.session.tokens.push(id);
                }
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.round() {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        let said = self.session.tokens.len();
        if self.session.target.tokens().len() > said {
            self.session.target.truncate(said);
        }
    }
}

impl<'a> Generation<'a> {
    pub(super) fn new(
        session: &'a mut Session,
        options: GenerateOptions,
        reused_tokens: usize,
    ) -> Self {
        let text = TextStream::new(session.vocabulary.clone(), &options.stop, options.thinking);
        let prompt_tokens = session.tokens.len();
        Self {
            session,
            options,
            text,
            queue: VecDeque::new(),
            prompt_tokens,
            reused_tokens,
            generated_tokens: 0,
            speculation: Speculation::default(),
            clock: Clock::start(),
            ended: false,
        }
    }

    /// One call of the target, and the tokens that it decides.
    ///
    /// The call feeds what the target lacks, which is the prompt at first and then the last token,
    /// together with the drafts; so the prompt needs no loop of its own.
    fn round(&mut self) -> Result<()> {
        if let Some(reason) = self.limit_reached() {
            self.finish(reason);
            return Ok(());
        }
        let drafts = self.draft()?;
        let base = self.session.tokens.len();
        let mut extended = self.session.tokens.clone();
        extended.extend(drafts.iter().map(|it| it.id));

        let fed = self.session.target.tokens().len();
        let logits = self.session.target.extend(&extended[fed..], drafts.len() + 1)?;
        self.clock.prompt_is_computed();

        let judged = self.distributions(&extended, base, &logits);
        // Nothing computed by a pass with damaged logits may be met again.
        let target = judged.inspect_err(|_| self.session.target.truncate(0))?;
        let verdict = verify(&drafts, &target, &Rng::new(self.options.sampling.seed), base);
        self.speculation.target_passes += 1;
        self.speculation.drafted += drafts.len();
        self.speculation.accepted += verdict.accepted;
        self.speculation.accepted_per_round.push(verdict.accepted as u32);

        let decided = drafts[..verdict.accepted].iter().map(|it| it.id).chain([verdict.next]);
        let mut emitted = 0;
        for (row, id) in decided.enumerate() {
            self.emit(id, logits.row(row))?;
            emitted += 1;
            if self.ended {
                break;
            }
        }
        self.session.target.truncate(base + verdict.accepted.min(emitted));
        Ok(())
    }

    /// Proposals for this round: never more than can still be said.
    fn draft(&mut self) -> Result<Vec<Draft>> {
        let k = self.options.draft_len.min(self.remaining());
        let Some(drafter) = self.session.drafter.as_mut().filter(|_| k > 0) else {
            return Ok(Vec::new());
        };
        let vocab_size = self.session.target.vocab_size();
        let drafts = drafter.draft(&self.session.tokens, k)?;
        Ok(drafts.into_iter().take(k).take_while(|it| (it.id as usize) < vocab_size).collect())
    }

    /// One distribution for each row. Penalties see the drafts before the row, and no others.
    fn distributions(&self, extended: &[u32], base: usize, logits: &Logits) -> Result<Vec<Dist>> {
        (0..logits.num_rows())
            .map(|row| {
                let history = History::new(&extended[..base + row], self.prompt_tokens);
                Ok(Dist::new(logits.row(row), &self.options.sampling, history)?)
            })
            .collect()
    }

    /// Hands out a decided token and its text, and ends the answer where it ends.
    fn emit(&mut self, id: u32, logits: &[f32]) -> Result<()> {
        let logprob =
            self.options.logprobs.then(|| dist::log_probability(logits, id)).transpose()?;
        self.clock.token_is_decided();
        self.generated_tokens += 1;
        self.queue.push_back(Event::Token { id, logprob });
        let mut stopped_by = None;
        let is_eos = self.options.eos_ids.contains(&id);
        if !is_eos {
            let (pieces, stop) = self.text.push(id);
            self.queue_text(pieces);
            stopped_by = stop;
        }
        let reason = match stopped_by {
            Some(stop) => Some(FinishReason::StopString(stop)),
            None if is_eos && !self.options.ignore_eos => Some(FinishReason::Stop),
            None => self.limit_reached(),
        };
        if let Some(reason) = reason {
            self.finish(reason);
        }
        Ok(())
    }

    /// Tokens that can still be said.
    fn remaining(&self) -> usize {
        let room = self.room();
        let allowed = self.options.max_tokens.unwrap_or(usize::MAX);
        room.min(allowed.saturating_sub(self.generated_tokens))
    }

    fn room(&self) -> usize {
        let used = self.prompt_tokens + self.generated_tokens;
        self.session.target.context_len().saturating_sub(used)
    }

    fn limit_reached(&self) -> Option<FinishReason> {
        if self.options.max_tokens.is_some_and(|it| self.generated_tokens >= it) {
            Some(FinishReason::Length)
        } else if self.room() == 0 {
            Some(FinishReason::ContextFull)
        } else {
            None
        }
    }

    fn queue_text(&mut self, pieces: Vec<Piece>) {
        let events =
            pieces.into_iter().map(|it| Event::Text { text: it.text, thinking: it.thinking });
        self.queue.extend(events);
    }

    fn finish(&mut self, mut reason: FinishReason) {
        if !matches!(reason, FinishReason::StopString(_)) {
            let (pieces, stopped_by) = self.text.finish();
            self.queue_text(pieces);
            if let Some(stop) = stopped_by {
                reason = FinishReason::StopString(stop);
            }
        }
        self.ended = true;
        self.queue.push_back(Event::Done(Finished {
            reason,
            prompt_tokens: self.prompt_tokens,
            reused_tokens: self.reused_tokens,
            generated_tokens: self.generated_tokens,
            speculation: std::mem::take(&mut self.speculation),
            timings: self.clock.timings(),
        }));
    }
}

/// The moments that [`Timings`] are made of.
struct Clock {
    start: Instant,
    prompt: Option<Instant>,
    first_token: Option<Instant>,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now(), prompt: None, first_token: None }
    }

    fn prompt_is_computed(&mut self) {
        self.prompt.get_or_insert_with(Instant::now);
    }

    fn token_is_decided(&mut self) {
        self.first_token.get_or_insert_with(Instant::now);
    }

    fn timings(&self) -> Timings {
        let since_start = |moment: Option<Instant>| {
            moment.map_or(0.0, |it| it.duration_since(self.start).as_secs_f64() * 1e3)
        };
        Timings {
            prompt_ms: since_start(self.prompt),
            ttft_ms: since_start(self.first_token),
            decode_ms: self.first_token.map_or(0.0, |it| it.elapsed().as_secs_f64() * 1e3),
        }
    }
}
