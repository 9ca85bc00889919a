//! Rust source as the rules see it: comments, literals and tests blanked out, lines kept.

/// One file in three forms of equal length and equal lines.
#[derive(Debug)]
pub struct SourceFile {
    /// Path below the repository, with forward slashes.
    pub path: String,
    /// As it is on disk.
    pub text: String,
    /// Comments blanked, literals kept (a feature's name is a literal).
    pub commentless: String,
    /// Comments and literals blanked.
    pub code: String,
    /// As `code`, with items under `#[cfg(test)]` blanked too.
    pub shipped: String,
}

impl SourceFile {
    /// Prepares `text` for the rules.
    pub fn new(path: String, text: String) -> Self {
        let commentless = blank(&text, Literals::Kept);
        let code = blank(&text, Literals::Blanked);
        let shipped = if is_test_path(&path) { spaces(&code) } else { blank_tests(&code) };
        Self { path, text, commentless, code, shipped }
    }

    /// Lines that hold something outside of tests.
    pub fn shipped_lines(&self) -> usize {
        let tests = self.code.lines().zip(self.shipped.lines());
        tests.filter(|(code, shipped)| code.trim().is_empty() || !shipped.trim().is_empty()).count()
    }
}

/// Lines (from 1) on which `word` occurs as a whole: neither continued to the left nor to the
/// right by a character of an identifier. Spaces in `word` match any run of white space on a line.
pub fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let holds = |line: &str| {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        line.match_indices(word).any(|(at, found)| {
            let before = line[..at].chars().next_back().filter(|_| starts_identifier(word));
            let after = line[at + found.len()..].chars().next().filter(|_| ends_identifier(word));
            !before.is_some_and(is_identifier) && !after.is_some_and(is_identifier)
        })
    };
    code.lines().enumerate().filter(|(_, line)| holds(line)).map(|(index, _)| index + 1).collect()
}

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn starts_identifier(word: &str) -> bool {
    word.chars().next().is_some_and(is_identifier)
}

fn ends_identifier(word: &str) -> bool {
    word.chars().next_back().is_some_and(is_identifier)
}

fn is_test_path(path: &str) -> bool {
    let is_folder = path.contains("/tests/") || path.contains("/benches/");
    is_folder || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

#[derive(Clone, Copy, PartialEq)]
enum Literals {
    Kept,
    Blanked,
}

/// Replaces each character but line ends by a space of the same number of bytes.
fn spaces(text: &str) -> String {
    text.chars().flat_map(blank_character).collect()
}

fn blank_character(c: char) -> impl Iterator<Item = char> {
    let (blank, count) = if c == '\n' { ('\n', 1) } else { (' ', c.len_utf8()) };
    std::iter::repeat_n(blank, count)
}

/// Blanks comments, and literals if asked to. A scanner, not a parser: it knows nested block
/// comments, escapes, raw strings, and the difference between a character and a lifetime.
fn blank(text: &str, literals: Literals) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut previous = ' ';
    while let Some(c) = rest.chars().next() {
        let literal = literal_len(rest, previous);
        let comment = comment_len(rest);
        let len = literal.or(comment).unwrap_or(c.len_utf8());
        let (piece, tail) = rest.split_at(len);
        if comment.is_some() || (literal.is_some() && literals == Literals::Blanked) {
            out.push_str(&spaces(piece));
        } else {
            out.push_str(piece);
        }
        previous = piece.chars().next_back().unwrap_or(' ');
        rest = tail;
    }
    out
}

/// Bytes of the comment that `rest` begins with, if it begins with one.
fn comment_len(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(rest.len())
}

/// Bytes of the string or character literal that `rest` begins with, if it begins with one.
fn literal_len(rest: &str, previous: char) -> Option<usize> {
    if rest.starts_with('"') {
        return Some(quoted_len(rest, '"'));
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        let mut characters = inside.chars();
        let (first, second) = (characters.next()?, characters.next());
        let is_character = first == '\\' || second == Some('\'');
        return is_character.then(|| quoted_len(rest, '\''));
    }
    let marker = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = marker.chars().take_while(|&it| it == '#').count();
    if is_identifier(previous) || !marker[hashes..].starts_with('"') {
        return None;
    }
    let start = rest.len() - marker.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()))
}

/// Bytes of a quoted literal with backslash escapes, both quotes included.
fn quoted_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// Blanks every item under an attribute `#[cfg(test)]` or `#[cfg(all(test, ...))]`.
fn blank_tests(code: &str) -> String {
    if code.contains("#![cfg(test)]") {
        return spaces(code);
    }
    let mut out = code.to_owned();
    for attribute in ["#[cfg(test)]", "#[cfg(all(test"] {
        let mut from = 0;
        while let Some(at) = out[from..].find(attribute).map(|it| from + it) {
            let end = item_end(&out, at + attribute.len());
            out.replace_range(at..end, &spaces(&code[at..end]));
            from = end;
        }
    }
    out
}

/// Where the item that follows an attribute ends: at the brace that closes its body, or at the
/// first semicolon outside of brackets.
fn item_end(code: &str, start: usize) -> usize {
    let mut braces = 0_usize;
    let mut brackets = 0_usize;
    for (at, c) in code[start..].char_indices() {
        match c {
            '{' => braces += 1,
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return start + at + 1;
                }
            }
            ';' if braces == 0 && brackets == 0 => return start + at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        SourceFile::new("engine/src/x.rs".to_owned(), text.to_owned()).code
    }

    #[test]
    fn comments_and_literals_vanish_but_lines_stay() {
        let text = "a /* b /* c */ d */ e // f\n\"g\\\"h\" i 'j' r#\"k\"l\"# 'm: n '\\'' o";
        let code = code(text);
        assert_eq!(code.split_whitespace().collect::<String>(), "aei'm:no");
        assert_eq!(code.lines().count(), 2);
        assert_eq!(code.len(), text.len());
    }

    #[test]
    fn commentless_keeps_literals() {
        let file = SourceFile::new("a.rs".to_owned(), "x(\"cuda\") // \"metal\"".to_owned());
        assert_eq!(file.commentless.trim_end(), "x(\"cuda\")");
    }

    #[test]
    fn items_under_cfg_test_are_not_shipped() {
        let text =
            "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n fn b() { { } }\n}\nfn c() {}\n";
        let file = SourceFile::new("engine/src/x.rs".to_owned(), text.to_owned());
        assert_eq!(file.shipped.split_whitespace().collect::<String>(), "fna(){}fnc(){}");
        assert_eq!(file.shipped_lines(), 2);
        let whole = SourceFile::new("engine/tests/x.rs".to_owned(), text.to_owned());
        assert_eq!(whole.shipped.trim(), "");
    }

    #[test]
    fn a_test_module_in_another_file_ends_at_its_semicolon() {
        let shipped = blank_tests("#[cfg(test)] mod tests; fn a() { }");
        assert_eq!(shipped.trim(), "fn a() { }");
    }

    #[test]
    fn words_match_as_a_whole() {
        assert_eq!(lines_with("eprint!(x)\nprint!(x)", "print!"), [2]);
        assert_eq!(lines_with("fn  forward(", "fn forward"), [1]);
        assert_eq!(lines_with("fn forward_to(", "fn forward"), [] as [usize; 0]);
    }
}
