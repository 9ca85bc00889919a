//! What can be wrong with a row, and how to say where.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The row is used, but probably not as its author thinks.
    Warning,
    /// The row can't be used.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])* $rule:ident = $name:literal, $fix:literal;)*) => {
        /// What is wrong, from a closed set. Names are part of the machine form.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[doc = $doc])* $rule,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Rule] = &[$(Rule::$rule,)*];

            /// Its name, in kebab case.
            pub fn name(self) -> &'static str {
                match self { $(Rule::$rule => $name,)* }
            }

            /// What the author of the data can do.
            pub fn fix(self) -> &'static str {
                match self { $(Rule::$rule => $fix,)* }
            }
        }
    };
}

rules! {
    /// A byte order mark in front of the file.
    ByteOrderMark = "byte-order-mark", "save the file as UTF-8 without a byte order mark";
    /// Bytes that are no UTF-8.
    Encoding = "encoding", "save the file as UTF-8";
    /// Not JSON.
    BadJson = "bad-json", "write one JSON object on each line";
    /// One key twice in an object: readers disagree on which counts.
    DuplicateKey = "duplicate-key", "keep one of the two";
    /// A line longer than any honest row.
    LineTooLong = "line-too-long", "split the row; a line may have 16 MiB";
    /// A row that is no object.
    NotAnObject = "not-an-object", "write one JSON object on each line";
    /// Keys that no known format has.
    UnknownFormat = "unknown-format", "use `messages`, `prompt` and `completion`, `text`, `instruction` and `output`, `conversations`, or `chosen` and `rejected`";
    /// A row in another format than most of its file.
    MixedFormats = "mixed-formats", "put rows of one format into one file";
    /// A value of the wrong type.
    WrongType = "wrong-type", "give the value the type that the format asks for";
    /// A key that the format needs.
    MissingKey = "missing-key", "add the key";
    /// A role that no chat template knows.
    UnknownRole = "unknown-role", "use system, developer, user, assistant or tool";
    /// A weight that is neither 0 nor 1, or on a turn that is not the assistant's.
    BadWeight = "bad-weight", "use 0 or 1, on turns of the assistant";
    /// A turn without text.
    EmptyTurn = "empty-turn", "write the text, or remove the turn";
    /// No turn of the assistant that could be trained.
    NoAssistant = "no-assistant", "end the row with a turn of the assistant";
    /// The last turn is somebody else's: nothing is learned from it.
    LastNotAssistant = "last-not-assistant", "remove the turns behind the assistant's last one";
    /// The same speaker twice in a row.
    SameRoleTwice = "same-role-twice", "join the two turns";
    /// The answer repeats the prompt.
    PromptIsCompletion = "prompt-is-completion", "write the answer that the model shall give";
    /// Both answers of a pair are the same.
    ChosenIsRejected = "chosen-is-rejected", "remove the pair, or write two different answers";
    /// Answers that make no pair: one side is missing.
    NoPair = "no-pair", "vote for one answer and against another, or remove the row";
    /// A row that stands in the file already.
    Duplicate = "duplicate", "remove one of them; repetition counts as weight";
    /// A prompt of the validation file that is in the training file too.
    Leak = "leak", "remove the row from one of the two files: its score says nothing";
    /// A control token's text inside of a turn; it stays text.
    ControlToken = "control-token", "remove it; turns are marked by the chat template, not in the text";
    /// The chat template does not take these turns.
    TemplateRefused = "template-refused", "change the order or the roles of the turns";
    /// The answer can't be found in what the template renders.
    MaskUnclear = "mask-unclear", "train a single answer in each row, or use a template that keeps earlier turns as they are";
    /// The template closes a turn with no token, so one is added.
    NoEndOfTurn = "no-end-of-turn", "use a chat template that writes the end of a turn";
    /// In training, other tokens stand in front of the answer than when the model runs.
    OpeningDiffers = "opening-differs", "give the reasoning too, or turn thinking off where the model runs";
    /// The row is longer than the limit.
    TooLong = "too-long", "raise --max-seq-len, or shorten the row";
    /// No token is left that could be trained.
    NothingTrained = "nothing-trained", "raise --max-seq-len, or give a turn the weight 1";
}

impl Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A problem, without its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Which rule.
    pub rule: Rule,
    /// Whether the row can be used.
    pub severity: Severity,
    /// From 1.
    pub line: u64,
    /// In characters, from 1.
    pub column: u64,
    /// What is there, with the offending value.
    pub what: String,
    /// What to do.
    pub fix: &'static str,
    /// The row around the place.
    #[serde(skip)]
    pub excerpt: Excerpt,
}

/// A short stretch of a line, with a place in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The text, without control characters.
    pub text: String,
    /// Characters in front of the place.
    pub caret: usize,
}

impl Excerpt {
    /// What stands around a byte of a text that may be no text at all.
    pub(super) fn around(bytes: &[u8], offset: usize) -> Self {
        const BEFORE: usize = 40;
        const BEHIND: usize = 36;
        let offset = offset.min(bytes.len());
        let (before, behind) = bytes.split_at(offset);
        // Four bytes are enough for any character, so that long rows cost no more than short ones.
        let before = String::from_utf8_lossy(&before[before.len().saturating_sub(4 * BEFORE)..])
            .into_owned();
        let behind = String::from_utf8_lossy(&behind[..behind.len().min(4 * BEHIND)]).into_owned();
        let skipped = before.chars().count().saturating_sub(BEFORE);
        let shown = |it: char| if it.is_control() { ' ' } else { it };
        let mut text: String = before.chars().skip(skipped).map(shown).collect();
        if skipped > 0 || offset > before.len() {
            text.replace_range(..text.char_indices().nth(3).map_or(0, |it| it.0), "...");
        }
        let caret = text.chars().count();
        text.extend(behind.chars().take(BEHIND).map(shown));
        Self { text: text.trim_end().to_owned(), caret }
    }
}

/// A problem of a row, placed by its byte in the row's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub rule: Rule,
    pub severity: Severity,
    pub offset: usize,
    pub what: String,
}

impl Finding {
    /// A reason not to use the row.
    pub fn error(rule: Rule, offset: usize, what: impl Into<String>) -> Self {
        Self { rule, severity: Severity::Error, offset, what: what.into() }
    }

    /// A reason to look at the row.
    pub fn warning(rule: Rule, offset: usize, what: impl Into<String>) -> Self {
        Self { rule, severity: Severity::Warning, offset, what: what.into() }
    }
}

/// The findings of one row.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings(pub Vec<Finding>);

impl Findings {
    /// Notes an error.
    pub fn error(&mut self, rule: Rule, offset: usize, what: impl Into<String>) {
        self.0.push(Finding::error(rule, offset, what));
    }

    /// Notes a warning.
    pub fn warning(&mut self, rule: Rule, offset: usize, what: impl Into<String>) {
        self.0.push(Finding::warning(rule, offset, what));
    }

    /// Whether the row can't be used.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|it| it.severity == Severity::Error)
    }
}

/// A value of the user's, short enough for a message.
pub(super) fn quoted(text: &str) -> String {
    const MOST_CHARS: usize = 40;
    let flat: String =
        text.chars().map(|it| if it.is_control() { ' ' } else { it }).take(MOST_CHARS).collect();
    match text.chars().nth(MOST_CHARS) {
        Some(_) => format!("`{}...`", flat.trim_end()),
        None => format!("`{flat}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_in_kebab_case() {
        let mut names: Vec<_> = Rule::ALL.iter().map(|it| it.name()).collect();
        assert!(names.iter().all(|it| it.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Rule::ALL.len());
    }

    #[test]
    fn excerpts_are_short_and_point_at_the_place() {
        let at = |it: &Excerpt| it.text.chars().nth(it.caret);
        let short = Excerpt::around(b"{\"role\": \"bot\"}", 9);
        assert_eq!((short.text.as_str(), at(&short)), ("{\"role\": \"bot\"}", Some('"')));
        let long = format!("{}X{}", "\u{e9}".repeat(500), "y".repeat(500));
        let cut = Excerpt::around(long.as_bytes(), 1000);
        assert_eq!((at(&cut), cut.text.chars().count()), (Some('X'), 76));
        assert!(cut.text.starts_with("...\u{e9}"), "{}", cut.text);
        assert_eq!(Excerpt::around(b"\xFF\xFE", 9).caret, 2);
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(quoted("bot"), "`bot`");
        assert_eq!(quoted("a\nb"), "`a b`");
        assert_eq!(quoted(&"x".repeat(50)), format!("`{}...`", "x".repeat(40)));
    }
}
