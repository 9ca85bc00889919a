//! What can go wrong with cases, critiques and evaluations.

use std::path::PathBuf;

use minicrit_engine::NamedError;

/// How many problems of a file are told.
const SHOWN: usize = 10;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Lines of a file that are not of the form, all of them.
    #[error("{} of {read} lines of `{}` can't be used: {}", .problems.len(), .path.display(), shown(.problems))]
    BadLines {
        /// The file.
        path: PathBuf,
        /// Lines that were read.
        read: usize,
        /// `line N: what`.
        problems: Vec<String>,
    },
    /// A file or suite without a case.
    #[error("there is no case in `{origin}`")]
    NoCases {
        /// The file or suite.
        origin: String,
    },
    /// A file whose cases all have one label where both are needed.
    #[error("all {count} cases of `{origin}` are {label}: nothing can be compared")]
    OneClass {
        /// The file or suite.
        origin: String,
        /// Number of cases.
        count: usize,
        /// Their label.
        label: &'static str,
    },
    /// A name that is not in a closed list.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// What kind of name.
        what: &'static str,
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The generator ran out of new combinations.
    #[error("only {made} of {wanted} different items could be made")]
    Exhausted {
        /// Items made.
        made: usize,
        /// Items wanted.
        wanted: usize,
    },
    /// A file of results that belongs to another suite or model.
    #[error("`{}` holds results of another suite or model", .path.display())]
    OtherRun {
        /// The file.
        path: PathBuf,
    },
    /// A profile that can't be used.
    #[error("`{}` is no critic's profile: {what}", .path.display())]
    BadProfile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The gate's answer to an adapter that is worse.
    #[error("the adapter is not promoted: {}", .reasons.join("; "))]
    Refused {
        /// Why.
        reasons: Vec<String>,
    },
    /// A version that is not there.
    #[error("`{name}` has no {}", .version.map_or("earlier version".to_owned(), |it| format!("version {it}")))]
    NoVersion {
        /// The adapter's folder of versions.
        name: String,
        /// The version that was asked for.
        version: Option<u32>,
    },
    /// A server that can't be reached, is slow, or answers something else.
    #[error("`{url}`: {what}")]
    Endpoint {
        /// Its address.
        url: String,
        /// What happened.
        what: String,
    },
    /// A user's scoring program that failed or printed no number.
    #[error("`{program}`: {what}")]
    ScoreCommand {
        /// The program.
        program: String,
        /// What happened.
        what: String,
    },
    /// A rationale without a word.
    #[error("the rationale is empty")]
    EmptyRationale,
    /// An answer from which no verdict can be read.
    #[error("no verdict can be read from the answer: {answer}")]
    NoVerdict {
        /// What came instead.
        answer: String,
    },
    /// A model that can't read text.
    #[error("this model has no tokenizer: `{model}`")]
    NoTokenizer {
        /// The model.
        model: String,
    },
    /// A setting outside of its range.
    #[error("{field} is {value}, expected {expected}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// What was given.
        value: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// A file that can't be read or written.
    #[error("`{}`: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The local engine.
    #[error(transparent)]
    Engine(#[from] minicrit_engine::Error),
}

fn shown(problems: &[String]) -> String {
    let mut text = problems.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if problems.len() > SHOWN {
        text += &format!("; and {} more", problems.len() - SHOWN);
    }
    text
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        match self {
            Error::BadLines { .. } => "bad-lines",
            Error::NoCases { .. } => "no-cases",
            Error::OneClass { .. } => "one-class",
            Error::Unknown { .. } => "unknown-name",
            Error::Exhausted { .. } => "exhausted",
            Error::OtherRun { .. } => "other-run",
            Error::BadProfile { .. } => "bad-profile",
            Error::Refused { .. } => "not-promoted",
            Error::NoVersion { .. } => "no-version",
            Error::Endpoint { .. } => "endpoint",
            Error::ScoreCommand { .. } => "score-command",
            Error::EmptyRationale => "empty-rationale",
            Error::NoVerdict { .. } => "no-verdict",
            Error::NoTokenizer { .. } => "no-tokenizer",
            Error::Setting { .. } => "bad-setting",
            Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                "file-not-found"
            }
            Error::File { .. } => "file",
            Error::Engine(it) => it.name(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::BadLines { .. } => Some(
                "a line is like {\"rationale\": \"...\", \"label\": \"flawed\", \"flaw_type\": \"small sample\"}"
                    .into(),
            ),
            Error::NoCases { .. } => Some("minicrit data hard-examples --count 100".into()),
            Error::OneClass { .. } => {
                Some("add cases of the other label: a critic that always says one thing looks perfect here".into())
            }
            Error::Unknown { known, .. } => Some(format!("known: {}", known.join(", "))),
            Error::Exhausted { .. } => Some("ask for fewer items, or for more kinds and domains".into()),
            Error::OtherRun { .. } => Some("pass another --output folder, or remove the file".into()),
            Error::BadProfile { .. } => Some("minicrit eval CASES --adapter DIR --calibrate writes it anew".into()),
            Error::Refused { .. } => Some("minicrit eval SUITE --adapter DIR --compare base --output report shows where".into()),
            Error::NoVersion { .. } => Some("minicrit adapters history NAME".into()),
            Error::Endpoint { .. } => Some("check the address and that the server runs: curl URL/models".into()),
            Error::ScoreCommand { .. } => Some("it gets one JSON object on standard input and prints one number".into()),
            Error::EmptyRationale => Some("give the argument as TEXT, with --file, or on standard input".into()),
            Error::NoVerdict { .. } => Some("the model may not be made for this: try --prompt expert".into()),
            Error::NoTokenizer { .. } => Some("put its tokenizer.json beside the weights".into()),
            Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Some(
                "check the spelling; minicrit data hard-examples writes cases to start with".into(),
            ),
            Error::File { .. } => Some("check the path and its permissions".into()),
            Error::Setting { .. } => None,
            Error::Engine(it) => it.hint(),
        }
    }
}
