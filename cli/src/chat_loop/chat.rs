//! A chat in progress: the model, the messages so far, the settings as the user changed them.

use std::{io::Write, sync::Arc};

use minicrit_engine::{
    adapter::Adapter,
    chat::Message,
    session::{GenerateOptions, Session},
};
use minicrit_hub::atomic_file;
use serde_json::json;

use super::lines::{self, HELP, Line, Topic};
use crate::{
    adapter::AdapterRef,
    answer::{self, Answer},
    args::sampling,
    commands::tell_figures,
    data_folder,
    env::Environment,
    errors::{self, Failure},
    model::Loaded,
    printer::{self, AnswerPrinter},
    prompt::{Conversation, Prompt},
    settings::{RunSettings, Sampling},
};

/// Whether the chat goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The next line, please.
    Stay,
    /// It is over.
    Leave,
}

/// All that a chat holds.
pub struct Chat {
    settings: RunSettings,
    environment: Environment,
    loaded: Loaded,
    session: Session,
    system: Option<String>,
    /// User and assistant in turn, without the system message.
    turns: Vec<Message>,
    last: Option<Answer>,
    answers: usize,
    generated_tokens: usize,
}

impl Chat {
    /// Loads the model.
    ///
    /// # Errors
    /// Those of loading.
    pub fn open(settings: RunSettings, environment: Environment) -> anyhow::Result<Self> {
        let loaded = Loaded::open(&settings.model, &settings.compute)?;
        loaded.tokenizer()?;
        let session = answer::session(&loaded, &settings.drafting, &settings.compute)?;
        if loaded.model.template.is_none() {
            printer::note(
                "note: this model has no chat template: each line is continued as it stands, without memory",
            );
        }
        let turns = settings.opening.clone();
        Ok(Self {
            system: settings.system.clone(),
            settings,
            environment,
            loaded,
            session,
            turns,
            last: None,
            answers: 0,
            generated_tokens: 0,
        })
    }

    /// Does what a line says. What goes wrong is told and does not end the chat.
    ///
    /// # Errors
    /// A terminal that is gone.
    pub fn take(&mut self, line: &str) -> anyhow::Result<Flow> {
        let result = match lines::parse(line) {
            Line::Bye => return Ok(Flow::Leave),
            Line::Empty => Ok(()),
            Line::Say(text) => self.say(text),
            Line::Help => Ok(printer::data(HELP)?),
            Line::Clear => {
                self.turns.clone_from(&self.settings.opening);
                printer::dim_note("the chat is empty");
                Ok(())
            }
            Line::Save(name) => self.save(&name),
            Line::Load(name) => self.load(&name),
            Line::SetParameter(name, value) => {
                set_parameter(&mut self.settings.sampling, &name, &value).map_err(Into::into)
            }
            Line::SetSystem(text) => {
                self.system = Some(text).filter(|it| !it.is_empty());
                Ok(())
            }
            Line::Show(topic) => self.show(topic),
            Line::Adapter(name) => self.adapter(name.as_deref()),
            Line::Stats => self.stats(),
            Line::Wrong(what) => Err(Failure::usage("usage", what).hint("/help").into()),
        };
        if let Err(error) = result {
            if errors::is_closed_pipe(&error) {
                return Err(error);
            }
            errors::report(&error);
        }
        Ok(Flow::Stay)
    }

    fn conversation(&self) -> Conversation {
        let system = self.system.iter().map(|it| Message::new("system", it.as_str()));
        Conversation { messages: system.chain(self.turns.iter().cloned()).collect(), tools: None }
    }

    fn options(&self) -> GenerateOptions {
        let RunSettings { sampling, draft_tokens, .. } = &self.settings;
        answer::options(sampling, &self.loaded.model.generation, *draft_tokens)
    }

    fn say(&mut self, text: String) -> anyhow::Result<()> {
        self.turns.push(Message::new("user", text.as_str()));
        match self.answer(&text) {
            Ok(answer) => {
                self.turns.push(Message::new("assistant", answer.text.as_str()));
                self.answers += 1;
                self.generated_tokens += answer.token_ids.len();
                self.last = Some(answer);
                Ok(())
            }
            Err(error) => {
                // A question without an answer would confuse every later turn.
                self.turns.pop();
                Err(error)
            }
        }
    }

    fn answer(&mut self, text: &str) -> anyhow::Result<Answer> {
        let tokenizer = self.loaded.tokenizer()?;
        let template = self.loaded.model.template.as_ref();
        let prompt = match template {
            Some(_) if !self.settings.raw => self.conversation().encode(template, tokenizer)?,
            _ if self.settings.raw => Prompt::raw(text, tokenizer)?,
            _ => Prompt::plain(text, tokenizer)?,
        };
        let options = GenerateOptions { thinking: prompt.thinking, ..self.options() };
        let mut printer = AnswerPrinter::new();
        let load_ms = self.loaded.load_ms;
        let answer = answer::generate(
            &mut self.session,
            &prompt.ids,
            &options,
            load_ms,
            |text, thinking| printer.piece(text, thinking),
        );
        printer.finish()?;
        let answer = answer?;
        tell_figures(&self.settings, &answer);
        Ok(answer)
    }

    /// Puts another adapter in the place of the one that is on. One that can't be used leaves that
    /// one on. What the chat holds is read anew by the next answer: keys and values of the other
    /// adapter mean nothing to this one.
    fn adapter(&mut self, name: Option<&str>) -> anyhow::Result<()> {
        let decoder = &self.loaded.model.decoder;
        let adapter: Option<Arc<dyn Adapter>> = match name {
            Some(name) => {
                let found = AdapterRef::parse(name)?.found(&self.environment);
                Some(Arc::new(found.load(decoder)?))
            }
            None => None,
        };
        self.loaded.adapter = adapter;
        let RunSettings { drafting, compute, .. } = &self.settings;
        self.session = answer::session(&self.loaded, drafting, compute)?;
        printer::dim_note(&match name {
            Some(name) => format!("adapter {name} is on"),
            None => "no adapter is on".into(),
        });
        Ok(())
    }

    fn save(&self, name: &str) -> anyhow::Result<()> {
        let path = data_folder::chat_file(&self.environment, name)?;
        let value = json!({
            "model": self.loaded.label,
            "messages": self.conversation().messages,
        });
        let text = serde_json::to_string_pretty(&value)?;
        atomic_file::write::<std::io::Error>(&path, atomic_file::Readers::Owner, |file| {
            file.write_all(text.as_bytes())
        })
        .map_err(|error| errors::file("write", &path, &error))?;
        printer::dim_note(&format!("saved to {}", path.display()));
        Ok(())
    }

    fn load(&mut self, name: &str) -> anyhow::Result<()> {
        let path = data_folder::chat_file(&self.environment, name)?;
        let mut turns = Conversation::read(&path)?.messages;
        self.system = None;
        if turns.first().is_some_and(|it| it.role() == "system") {
            self.system = turns.remove(0).content().map(str::to_string);
        }
        self.turns = turns;
        printer::dim_note(&format!("{} messages from {}", self.turns.len(), path.display()));
        Ok(())
    }

    fn show(&self, topic: Topic) -> anyhow::Result<()> {
        let template = self.loaded.model.template.as_ref();
        let text = match topic {
            Topic::Info => format!(
                "{}\nweights {}, loaded in {}, {} messages",
                self.loaded.label,
                printer::bytes(self.loaded.weight_bytes),
                printer::milliseconds(self.loaded.load_ms),
                self.turns.len()
            ),
            Topic::System => self.system.clone().unwrap_or_else(|| "no system message".into()),
            Topic::Parameters => parameters(&self.options()),
            Topic::Template => template.map_or("no chat template", |it| it.source()).to_string(),
        };
        Ok(printer::data(&printer::clean(&text))?)
    }

    fn stats(&self) -> anyhow::Result<()> {
        if let Some(last) = &self.last {
            printer::data(&last.details())?;
        }
        let total =
            format!("{} answers, {} tokens in this chat", self.answers, self.generated_tokens);
        Ok(printer::data(&total)?)
    }
}

fn parameters(options: &GenerateOptions) -> String {
    let sampling = &options.sampling;
    let most = options.max_tokens.map_or("the rest of the context".into(), |it| it.to_string());
    let rows = [
        ("temperature", sampling.temperature.to_string()),
        ("top_k", sampling.top_k.to_string()),
        ("top_p", sampling.top_p.to_string()),
        ("min_p", sampling.min_p.to_string()),
        ("typical_p", sampling.typical_p.to_string()),
        ("repeat_penalty", sampling.repetition_penalty.to_string()),
        ("presence_penalty", sampling.presence_penalty.to_string()),
        ("frequency_penalty", sampling.frequency_penalty.to_string()),
        ("seed", sampling.seed.to_string()),
        ("max_tokens", most),
        ("stop", format!("{:?}", options.stop)),
    ];
    printer::table(["", ""], &rows.map(|(name, value)| [name.to_string(), value]))
}

/// `/set parameter`: the same limits as the flags.
fn set_parameter(set: &mut Sampling, name: &str, value: &str) -> Result<(), Failure> {
    let wrong = |what: String| Failure::usage("bad-setting", format!("{name}: {what}: `{value}`"));
    let whole = |value: &str| {
        value
            .parse::<u32>()
            .map(|it| it as usize)
            .map_err(|_| "expected a whole number".to_string())
    };
    match name {
        "temperature" => set.temperature = Some(sampling::non_negative(value).map_err(wrong)?),
        "top_k" => set.top_k = Some(whole(value).map_err(wrong)?),
        "top_p" => set.top_p = Some(sampling::fraction(value).map_err(wrong)?),
        "min_p" => set.min_p = Some(sampling::fraction(value).map_err(wrong)?),
        "typical_p" => set.typical_p = Some(sampling::positive_fraction(value).map_err(wrong)?),
        "repeat_penalty" => set.repeat_penalty = Some(sampling::positive(value).map_err(wrong)?),
        "presence_penalty" => set.presence_penalty = Some(sampling::penalty(value).map_err(wrong)?),
        "frequency_penalty" => {
            set.frequency_penalty = Some(sampling::penalty(value).map_err(wrong)?);
        }
        "seed" => {
            set.seed = value.parse().map_err(|_| wrong("expected a whole number".into()))?;
        }
        "max_tokens" => {
            set.max_tokens = Some(whole(value).map_err(wrong)?).filter(|it| *it > 0);
        }
        "stop" if value == "none" => set.stop.clear(),
        "stop" => set.stop.push(value.to_string()),
        _ => {
            let failure = Failure::usage("usage", format!("there is no parameter `{name}`"));
            return Err(failure.hint("/help lists them"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing_set() -> Sampling {
        Sampling {
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            typical_p: None,
            repeat_penalty: None,
            presence_penalty: None,
            frequency_penalty: None,
            seed: 0,
            max_tokens: None,
            stop: Vec::new(),
            ignore_eos: false,
        }
    }

    #[test]
    fn parameters_have_the_limits_of_the_flags() {
        let mut set = nothing_set();
        for (name, value) in
            [("temperature", "0.7"), ("top_k", "40"), ("seed", "9"), ("stop", "END")]
        {
            assert!(set_parameter(&mut set, name, value).is_ok(), "{name}");
        }
        assert_eq!((set.temperature, set.top_k, set.seed), (Some(0.7), Some(40), 9));
        assert_eq!(set.stop, ["END"]);
        assert!(set_parameter(&mut set, "stop", "none").is_ok());
        assert!(set.stop.is_empty());
        for (name, value) in
            [("temperature", "-1"), ("top_p", "1.5"), ("top_k", "x"), ("heat", "1")]
        {
            assert!(set_parameter(&mut set, name, value).is_err(), "{name} {value}");
        }
    }
}
