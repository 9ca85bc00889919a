//! What a typed line means.

/// A line of the chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Nothing was typed.
    Empty,
    /// A message to the model.
    Say(String),
    /// `/help` or `/?`.
    Help,
    /// `/bye`, `/exit` or `/quit`.
    Bye,
    /// `/clear`.
    Clear,
    /// `/save NAME`.
    Save(String),
    /// `/load NAME`.
    Load(String),
    /// `/set parameter NAME VALUE`.
    SetParameter(String, String),
    /// `/set system TEXT`; empty takes the system message away.
    SetSystem(String),
    /// `/show info|system|parameters|template`.
    Show(Topic),
    /// `/adapter NAME|DIR[:SCALE]`; nothing for `/adapter off`.
    Adapter(Option<String>),
    /// `/stats`.
    Stats,
    /// Something else with a slash, and what would be right.
    Wrong(String),
}

/// What `/show` can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Topic {
    Info,
    System,
    Parameters,
    Template,
}

/// The text of `/help`.
pub const HELP: &str = "\
/set parameter NAME VALUE   temperature, top_k, top_p, min_p, typical_p, repeat_penalty,
                            presence_penalty, frequency_penalty, seed, max_tokens, stop
                            (each stop text adds one; `none` takes them away)
/set system TEXT            the system message; nothing takes it away
/show info|system|parameters|template
/save NAME|FILE.json        keep this chat
/load NAME|FILE.json        go on with a kept one
/adapter NAME|DIR[:SCALE]   answer with another adapter; off takes it away
/clear                      forget the chat
/stats                      figures of the last answer and of the chat
/bye                        leave (or Ctrl-D)
\"\"\"                         begins and ends a message of several lines
Ctrl-C                      stops an answer";

const QUOTES: &str = "\"\"\"";

/// Whether `"""` was opened and not closed.
pub fn is_open(line: &str) -> bool {
    let text = line.trim_start();
    let opened = text.strip_prefix(QUOTES).or_else(|| {
        text.strip_prefix("/set system").map(str::trim_start).and_then(|it| it.strip_prefix(QUOTES))
    });
    opened.is_some_and(|rest| !rest.contains(QUOTES))
}

/// Reads a line.
pub fn parse(line: &str) -> Line {
    let text = line.trim();
    let Some(command) = text.strip_prefix('/') else {
        let message = unquote(text);
        return if message.is_empty() { Line::Empty } else { Line::Say(message.to_string()) };
    };
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    match (name, rest.is_empty()) {
        ("help" | "?", _) => Line::Help,
        ("bye" | "exit" | "quit", _) => Line::Bye,
        ("clear", _) => Line::Clear,
        ("stats", _) => Line::Stats,
        ("save", false) => Line::Save(rest.to_string()),
        ("load", false) => Line::Load(rest.to_string()),
        ("adapter", false) => Line::Adapter((rest != "off").then(|| rest.to_string())),
        ("adapter", true) => Line::Wrong("/adapter needs a name or a folder, or off".into()),
        ("save" | "load", true) => Line::Wrong(format!("/{name} needs a name or a file")),
        ("set", _) => set(rest),
        ("show", _) => show(rest),
        _ => Line::Wrong(format!("there is no /{name}")),
    }
}

fn set(rest: &str) -> Line {
    let (what, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let value = value.trim();
    match what {
        "system" => Line::SetSystem(unquote(value).to_string()),
        "parameter" => match value.split_once(char::is_whitespace) {
            Some((name, value)) => Line::SetParameter(name.to_string(), value.trim().to_string()),
            None => Line::Wrong("/set parameter needs a name and a value".into()),
        },
        _ => Line::Wrong("/set knows parameter and system".into()),
    }
}

fn show(topic: &str) -> Line {
    match topic {
        "info" | "" => Line::Show(Topic::Info),
        "system" => Line::Show(Topic::System),
        "parameters" => Line::Show(Topic::Parameters),
        "template" => Line::Show(Topic::Template),
        _ => Line::Wrong("/show knows info, system, parameters and template".into()),
    }
}

fn unquote(text: &str) -> &str {
    match text.strip_prefix(QUOTES) {
        Some(rest) => rest.strip_suffix(QUOTES).unwrap_or(rest).trim_matches('\n'),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_commands_and_all_else_is_said() {
        let say = |text: &str| Line::Say(text.into());
        assert_eq!(parse("  hello /bye "), say("hello /bye"));
        assert_eq!(parse(""), Line::Empty);
        assert_eq!(parse("/?"), Line::Help);
        assert_eq!(parse("/quit"), Line::Bye);
        assert_eq!(parse("/save monday"), Line::Save("monday".into()));
        assert_eq!(parse("/adapter a/b:0.5"), Line::Adapter(Some("a/b:0.5".into())));
        assert_eq!(parse("/adapter off"), Line::Adapter(None));
        assert_eq!(parse("/set system be brief"), Line::SetSystem("be brief".into()));
        let set = Line::SetParameter("top_k".into(), "40".into());
        assert_eq!(parse("/set parameter top_k  40"), set);
        assert_eq!(parse("/show template"), Line::Show(Topic::Template));
        for wrong in ["/save", "/adapter", "/set", "/set parameter top_k", "/show me", "/nothing"] {
            assert!(matches!(parse(wrong), Line::Wrong(_)), "{wrong}");
        }
    }

    #[test]
    fn quotes_hold_several_lines() {
        for open in ["\"\"\"", "\"\"\"a\nb", "/set system \"\"\"x\ny"] {
            assert!(is_open(open), "{open}");
        }
        for closed in ["a", "\"\"\"a\"\"\"", "\"\"\"a\nb\n\"\"\"", "say \"\"\" now"] {
            assert!(!is_open(closed), "{closed}");
        }
        assert_eq!(parse("\"\"\"\na\n\nb\n\"\"\""), Line::Say("a\n\nb".into()));
    }
}
