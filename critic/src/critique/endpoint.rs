//! Labels and text from an OpenAI-compatible server, such as vLLM, llama-server or our own.
//!
//! The chat interface gives the probabilities of the first token alone, so a verdict's probability
//! is that of its first token among the twenty most probable ones; a flaw is read from the text.

use std::{thread::sleep, time::Duration};

use serde_json::{Value, json};

use super::{Backend, Prompt, Sampling};
use crate::{Error, Result};

/// The largest answer that is read.
const MOST_BYTES: u64 = 16 << 20;

/// Alternatives that servers give at most.
const TOP: usize = 20;

/// Log-probability of a label that is not among the alternatives.
const ABSENT: f64 = -30.0;

/// Where the server is and how long it may take.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSettings {
    /// Base address, such as `http://127.0.0.1:8000/v1`.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// Sent as a bearer token.
    pub key: Option<String>,
    /// For one request, all in all.
    pub timeout: Duration,
    /// Tries where the server is busy, fails or can't be reached.
    pub tries: u32,
}

/// A model behind HTTP.
pub struct Endpoint {
    settings: EndpointSettings,
    agent: ureq::Agent,
}

impl Endpoint {
    /// A client; nothing is sent yet.
    pub fn new(settings: EndpointSettings) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(settings.timeout))
            .http_status_as_error(false)
            // A redirect would carry the rationale to somebody else.
            .max_redirects(0)
            .build();
        Self { settings, agent: config.into() }
    }

    fn trouble(&self, what: impl Into<String>) -> Error {
        Error::Endpoint { url: self.settings.url.clone(), what: what.into() }
    }

    /// One chat completion; what may pass is tried again, after longer and longer pauses.
    #[allow(clippy::disallowed_methods)] // A server that is busy tells nobody when it is not.
    fn chat(&self, body: &Value) -> Result<Value> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.once(body) {
                Ok(value) => return Ok(value),
                Err((error, may_pass)) if !may_pass || tried >= self.settings.tries.max(1) => {
                    return Err(error);
                }
                Err(_) => sleep(Duration::from_millis(250) * 2_u32.pow(tried.min(6) - 1)),
            }
        }
    }

    /// The answer, or the trouble and whether it may pass.
    fn once(&self, body: &Value) -> std::result::Result<Value, (Error, bool)> {
        let url = format!("{}/chat/completions", self.settings.url.trim_end_matches('/'));
        let mut request = self.agent.post(&url).content_type("application/json");
        if let Some(key) = &self.settings.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = request
            .send(body.to_string())
            .map_err(|error| (self.trouble(error.to_string()), true))?;
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .with_config()
            .limit(MOST_BYTES)
            .read_to_string()
            .map_err(|error| (self.trouble(error.to_string()), true))?;
        if status != 200 {
            let start: String = text.chars().take(300).collect();
            let may_pass = status == 408 || status == 429 || status >= 500;
            return Err((self.trouble(format!("status {status}: {start}")), may_pass));
        }
        serde_json::from_str(&text)
            .map_err(|error| (self.trouble(format!("the answer is no JSON: {error}")), false))
    }

    /// The first choice's message text and the alternatives of its first token.
    fn ask(&self, body: &Value) -> Result<(String, Vec<(String, f64)>)> {
        let answer = self.chat(body)?;
        let choice = &answer["choices"][0];
        let text = choice["message"]["content"].as_str();
        let text = text.ok_or_else(|| self.trouble("the answer has no message"))?.to_owned();
        let top = choice["logprobs"]["content"][0]["top_logprobs"].as_array();
        let alternative =
            |it: &Value| Some((it["token"].as_str()?.to_owned(), it["logprob"].as_f64()?));
        Ok((text, top.into_iter().flatten().filter_map(alternative).collect()))
    }

    fn body(&self, prompt: &Prompt, last: Option<String>) -> Value {
        let mut messages: Vec<Value> =
            prompt.messages.iter().map(|it| Value::Object(it.fields().clone())).collect();
        if !prompt.answer.trim().is_empty() {
            messages.push(json!({ "role": "assistant", "content": prompt.answer.trim() }));
        }
        if let Some(text) = last {
            messages.push(json!({ "role": "user", "content": text }));
        }
        json!({ "model": self.settings.model, "messages": messages, "temperature": 0 })
    }
}

impl Backend for Endpoint {
    fn name(&self) -> &str {
        &self.settings.model
    }

    fn label_scores(&mut self, prompt: &Prompt, labels: &[&str]) -> Result<Vec<f64>> {
        let names: Vec<&str> = labels.iter().map(|it| it.trim()).collect();
        let question =
            format!("Answer with exactly one of these and nothing else: {}", names.join(", "));
        // A label to begin with would be the answer itself.
        let asked = Prompt { messages: prompt.messages.clone(), answer: String::new() };
        let mut body = self.body(&asked, Some(question));
        body["max_tokens"] = 16.into();
        let by_token = names.len() == 2;
        if by_token {
            body["logprobs"] = true.into();
            body["top_logprobs"] = TOP.into();
        }
        let (text, top) = self.ask(&body)?;
        if !by_token {
            return named(&names, &text);
        }
        if top.is_empty() {
            return Err(self.trouble("the server gives no log-probabilities"));
        }
        let scores: Vec<f64> = names.iter().map(|name| of_first_token(name, &top)).collect();
        if scores.iter().all(|it| *it <= ABSENT) {
            return Err(Error::NoVerdict { answer: format!("{text:?}") });
        }
        Ok(scores)
    }

    fn generate(&mut self, prompt: &Prompt, sampling: &Sampling) -> Result<String> {
        let begun = prompt.answer.trim();
        let last = (!begun.is_empty()).then(|| "Go on from there.".to_owned());
        let mut body = self.body(prompt, last);
        body["max_tokens"] = sampling.max_tokens.into();
        body["temperature"] = sampling.temperature.into();
        body["seed"] = sampling.seed.into();
        if !sampling.stop.is_empty() {
            body["stop"] = json!(sampling.stop);
        }
        Ok(self.ask(&body)?.0)
    }
}

/// The sum of the probabilities of tokens that begin this name.
fn of_first_token(name: &str, top: &[(String, f64)]) -> f64 {
    let begins = |token: &str| {
        let token = token.trim().trim_matches(['"', '*', '.']).to_lowercase();
        !token.is_empty() && name.starts_with(&token)
    };
    let sum: f64 = top.iter().filter(|it| begins(&it.0)).map(|it| it.1.exp()).sum();
    if sum > 0.0 { sum.ln() } else { ABSENT }
}

/// Certainty for the longest name that the text holds.
fn named(names: &[&str], text: &str) -> Result<Vec<f64>> {
    let text = text.to_lowercase();
    let found =
        names.iter().filter(|it| text.contains(&it.to_lowercase())).max_by_key(|it| it.len());
    let found = found.ok_or_else(|| Error::NoVerdict { answer: format!("{text:?}") })?;
    Ok(names.iter().map(|it| if it == found { 0.0 } else { ABSENT }).collect())
}
