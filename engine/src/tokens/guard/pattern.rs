//! Which regular expressions may run on a user's text.
//!
//! A pattern without look-around and back-references runs in linear time. With them it runs by
//! backtracking, so its cost must be bounded by its form: no repetition of a repetition, and at
//! most a few repetitions side by side. All pre-tokenizers in use (GPT-2, Llama 3, Qwen 2,
//! Mistral's tekken, DeepSeek, SmolLM, Phi) are of that form.

const MAX_LEN: usize = 2048;
/// Repetitions without limit in one alternative; tekken has three.
const MAX_REPEATS: usize = 4;
const MAX_NESTING: usize = 16;
/// `{1000}` and the like multiply the pattern's size.
const MAX_COUNT: u32 = 64;

/// Says why a pattern is refused.
pub(super) fn check(pattern: &str) -> Result<(), &'static str> {
    if pattern.is_empty() {
        return Err("is empty");
    }
    if pattern.len() > MAX_LEN {
        return Err("is too long");
    }
    let mut scanner = Scanner { chars: pattern.chars().collect(), position: 0, backtracks: false };
    let shape = scanner.alternatives(0)?;
    if scanner.position < scanner.chars.len() {
        return Err("has a bracket too many");
    }
    if scanner.backtracks && (shape.nested || shape.repeats > MAX_REPEATS) {
        return Err("could take for ever");
    }
    Ok(())
}

/// What the cost of a part depends on.
#[derive(Default, Clone, Copy)]
struct Shape {
    /// Unlimited repetitions in the worst alternative.
    repeats: usize,
    /// Whether a repetition repeats a part that itself repeats.
    nested: bool,
}

struct Scanner {
    chars: Vec<char>,
    position: usize,
    backtracks: bool,
}

impl Scanner {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.position).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.position += 1;
        Some(c)
    }

    fn alternatives(&mut self, depth: usize) -> Result<Shape, &'static str> {
        if depth > MAX_NESTING {
            return Err("is nested too deeply");
        }
        let mut worst = Shape::default();
        let mut branch = Shape::default();
        while let Some(c) = self.peek() {
            if c == ')' {
                break;
            }
            self.position += 1;
            if c == '|' {
                worst.repeats = worst.repeats.max(branch.repeats);
                worst.nested |= branch.nested;
                branch = Shape::default();
                continue;
            }
            let mut atom = match c {
                '(' => self.group(depth)?,
                '[' => self.class().map(|()| Shape::default())?,
                '\\' => self.escape().map(|()| Shape::default())?,
                _ => Shape::default(),
            };
            if self.repeated()? {
                atom.nested |= atom.repeats > 0;
                atom.repeats += 1;
            }
            branch.repeats += atom.repeats;
            branch.nested |= atom.nested;
        }
        worst.repeats = worst.repeats.max(branch.repeats);
        worst.nested |= branch.nested;
        Ok(worst)
    }

    fn group(&mut self, depth: usize) -> Result<Shape, &'static str> {
        if self.peek() == Some('?') {
            self.position += 1;
            self.group_kind()?;
        }
        let shape = self.alternatives(depth + 1)?;
        match self.next() {
            Some(')') => Ok(shape),
            _ => Err("has an open bracket"),
        }
    }

    /// Steps over what stands between `(?` and a group's content.
    fn group_kind(&mut self) -> Result<(), &'static str> {
        let second = self.chars.get(self.position + 1).copied();
        match (self.next(), second) {
            (Some(':'), _) => {}
            (Some('=' | '!' | '>'), _) => self.backtracks = true,
            (Some('<'), Some('=' | '!')) => {
                self.position += 1;
                self.backtracks = true;
            }
            (Some('<'), _) | (Some('P'), Some('<')) => {
                while self.next().ok_or("has an open name")? != '>' {}
            }
            (Some('i' | 'm' | 's' | 'x' | 'u' | '-'), _) => {
                while let Some(c) = self.peek()
                    && c != ')'
                {
                    self.position += 1;
                    if c == ':' {
                        break;
                    }
                }
            }
            _ => return Err("uses a construct that is not supported"),
        }
        Ok(())
    }

    fn class(&mut self) -> Result<(), &'static str> {
        if self.peek() == Some('^') {
            self.position += 1;
        }
        let mut first = true;
        while let Some(c) = self.next() {
            match c {
                ']' if !first => return Ok(()),
                '[' => self.class()?,
                '\\' => self.escape()?,
                _ => {}
            }
            first = false;
        }
        Err("has an open class")
    }

    fn escape(&mut self) -> Result<(), &'static str> {
        match self.next() {
            None => Err("ends in a backslash"),
            Some('1'..='9' | 'k' | 'g' | 'K' | 'G') => Err("refers back to a group"),
            Some(_) => Ok(()),
        }
    }

    /// Whether an unlimited repetition follows; steps over any repetition.
    fn repeated(&mut self) -> Result<bool, &'static str> {
        let mut unlimited = false;
        let mut count = 0;
        loop {
            match self.peek() {
                Some('*' | '+') => {
                    // `++` is possessive: it belongs to the backtracking engine.
                    self.backtracks |= count > 0;
                    unlimited = true;
                    self.position += 1;
                }
                Some('?') => self.position += 1,
                Some('{') if self.counted().is_some() => {
                    let (last, len) = self.counted().unwrap_or((None, 1));
                    match last {
                        Some(last) if last > MAX_COUNT => return Err("counts too high"),
                        Some(_) => {}
                        None => unlimited = true,
                    }
                    self.position += len;
                }
                _ => return Ok(unlimited),
            }
            count += 1;
            if count > 2 {
                return Err("repeats a repetition");
            }
        }
    }

    /// `{m}`, `{m,}` or `{m,n}` at this position: the upper limit (none for unlimited; for `{m,}`
    /// with a high `m` that `m`), and its length.
    fn counted(&self) -> Option<(Option<u32>, usize)> {
        let text: String =
            self.chars[self.position + 1..].iter().take_while(|it| **it != '}').take(24).collect();
        let len = text.chars().count() + 2;
        if self.chars.get(self.position + len - 1) != Some(&'}') {
            return None;
        }
        let high = |it: &str| it.parse::<u32>().unwrap_or(u32::MAX);
        match text.split_once(',') {
            None if text.bytes().all(|it| it.is_ascii_digit()) && !text.is_empty() => {
                Some((Some(high(&text)), len))
            }
            Some((low, "")) if high(low) > MAX_COUNT => Some((Some(high(low)), len)),
            Some((_, "")) => Some((None, len)),
            Some((_, last)) if last.bytes().all(|it| it.is_ascii_digit()) => {
                Some((Some(high(last)), len))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The patterns of models in use, in their own notation.
    const IN_USE: &[&str] = &[
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|\s+(?!\S)|\s+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
        "[一-龥\u{3040}-ゟ゠-ヿ]+",
        r"\d{1}|\s+$",
    ];

    #[test]
    fn patterns_in_use_pass() {
        for pattern in IN_USE {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn costly_patterns_do_not() {
        for pattern in [
            r"(a+)+(?!b)",
            r"(?=x)(a*)*b",
            r"((a|b+)*c)*(?<=d)",
            r"a*a*a*a*a*(?!b)",
            r"(a)\1",
            r"(?:a{2,}){2,}(?!x)",
            r"(a{1000}){1000}",
            "(((((((((((((((((((a)))))))))))))))))))",
            r"[a",
            r"(a",
            r"a)",
            "",
            r"\",
            r"a+++",
        ] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
        assert!(check(&"a".repeat(3000)).is_err());
    }
}
