//! The only place that writes to the terminal: data on stdout, all else on stderr.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde::Serialize;

/// Style of thinking and of the line of statistics.
const DIM: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// Whether stdout is a terminal.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether stderr is a terminal.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether stdin is a terminal.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// One line of data.
///
/// # Errors
/// That of the stream; a closed pipe among them.
pub fn data(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A part of a line of data.
///
/// # Errors
/// That of the stream.
pub fn piece(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

/// Data with styles, which are shown where stdout is a terminal.
///
/// # Errors
/// That of the stream.
pub fn coloured(text: &str) -> io::Result<()> {
    anstream::stdout().lock().write_all(text.as_bytes())
}

/// Columns that the first `chars` characters of a text take on a terminal.
pub fn width(text: &str, chars: usize) -> usize {
    text.chars().take(chars).map(|it| unicode_width::UnicodeWidthChar::width(it).unwrap_or(0)).sum()
}

/// One JSON object on one line.
///
/// # Errors
/// That of the stream.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(data(&serde_json::to_string(value)?)?)
}

/// Help text, with its colours where stdout has them.
///
/// # Errors
/// That of the stream.
pub fn data_styled(text: &clap::builder::StyledStr) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    write!(out, "{}", text.ansi())?;
    out.flush()
}

/// One line for the user, beside the data. A stderr that is gone is no reason to fail.
pub fn note(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{}", clean(line));
}

/// As [`note`], dim.
pub fn dim_note(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{DIM}{}{DIM:#}", clean(line));
}

/// An error and its hint.
pub fn error(name: &str, message: &str, hint: Option<&str>) {
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{RED}error[{name}]{RED:#}: {}", clean(message));
    if let Some(hint) = hint {
        let _ = writeln!(err, "{CYAN}hint{CYAN:#}: {}", clean(hint));
    }
}

/// Text without the control characters (C0, DEL, C1) that could steer a terminal, but with
/// newlines and tabs.
pub fn clean(text: &str) -> String {
    text.chars().filter(|it| !it.is_control() || matches!(it, '\n' | '\t')).collect()
}

/// Where a model's text goes while it is made.
#[derive(Debug)]
pub struct AnswerPrinter {
    terminal: bool,
    colour: bool,
    thinking: bool,
    at_line_start: bool,
}

impl AnswerPrinter {
    /// A printer to stdout.
    pub fn new() -> Self {
        let colour = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self { terminal: stdout_is_terminal(), colour, thinking: false, at_line_start: true }
    }

    /// Prints a piece. On a terminal, control characters are taken out and thinking is dim; into a
    /// file or pipe, the answer goes as it is, and thinking does not go at all.
    ///
    /// # Errors
    /// That of the stream.
    pub fn piece(&mut self, text: &str, thinking: bool) -> io::Result<()> {
        let shown = self.shown(text, thinking);
        self.write(&shown)
    }

    /// Ends the answer: the style is reset, and a line that is open is closed.
    ///
    /// # Errors
    /// That of the stream.
    pub fn finish(&mut self) -> io::Result<()> {
        let mut end = self.switch(false);
        if !self.at_line_start || !self.terminal {
            end.push('\n');
        }
        self.at_line_start = true;
        self.write(&end)
    }

    fn shown(&mut self, text: &str, thinking: bool) -> String {
        if !self.terminal {
            return if thinking { String::new() } else { text.to_string() };
        }
        if let Some(last) = text.chars().last() {
            self.at_line_start = last == '\n';
        }
        self.switch(thinking) + &clean(text)
    }

    /// What turns thinking's style on or off, if it changes.
    fn switch(&mut self, thinking: bool) -> String {
        if std::mem::replace(&mut self.thinking, thinking) == thinking || !self.colour {
            return String::new();
        }
        if thinking { DIM.render().to_string() } else { DIM.render_reset().to_string() }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// A sign of life on stderr for work that takes longer than a second.
#[derive(Debug)]
pub struct Progress {
    done: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Progress {
    /// Starts waiting; the message appears after a second, and only on a terminal.
    pub fn start(message: String) -> Self {
        if !stderr_is_terminal() {
            return Self { done: None, thread: None };
        }
        let (done, wait) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            use std::sync::mpsc::RecvTimeoutError::Timeout;
            if wait.recv_timeout(Duration::from_secs(1)) != Err(Timeout) {
                return;
            }
            let spinner = indicatif::ProgressBar::new_spinner().with_message(clean(&message));
            spinner.enable_steady_tick(Duration::from_millis(120));
            // Either message means the end: a word, or a sender that is gone.
            let _ = wait.recv();
            spinner.finish_and_clear();
        });
        Self { done: Some(done), thread: Some(thread) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How far a long command is; nothing where stderr is no terminal.
pub struct Bar(Option<indicatif::ProgressBar>);

impl Bar {
    /// A bar of `count` steps.
    pub fn start(message: &str, count: usize) -> Self {
        if !stderr_is_terminal() {
            return Self(None);
        }
        let style =
            indicatif::ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}, {eta} left");
        let bar = indicatif::ProgressBar::new(count as u64).with_message(clean(message));
        Self(Some(match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }))
    }

    /// `done` steps are done.
    pub fn set(&self, done: usize) {
        if let Some(bar) = &self.0 {
            bar.set_position(done as u64);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A table without borders, for human eyes.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if header.iter().any(|it| !it.is_empty()) {
        table.set_header(header);
    }
    for row in rows {
        table.add_row(row.iter().map(|it| clean(&it.replace('\n', "\\n").replace('\t', "\\t"))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|it| it.trim_end().to_string()).collect();
    lines.join("\n")
}

/// Bytes as people read them: `1.1 GB`.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A time as people read it: `84 ms`, `1.24 s`.
pub fn milliseconds(value: f64) -> String {
    if value < 1000.0 { format!("{value:.0} ms") } else { format!("{:.2} s", value / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_lose_their_power() {
        assert_eq!(clean("a\u{1b}[31mb\u{7}\r\n\tc\u{9b}2J\u{7f}"), "a[31mb\n\tc2J");
        assert_eq!(clean("naïve 漢字 🙂"), "naïve 漢字 🙂");
    }

    fn to(terminal: bool, colour: bool) -> AnswerPrinter {
        AnswerPrinter { terminal, colour, thinking: false, at_line_start: true }
    }

    #[test]
    fn thinking_is_dim_on_a_terminal_and_absent_elsewhere() {
        let show = |mut to: AnswerPrinter| {
            [("hm", true), ("hm", true), ("yes\u{1b}", false)].map(|(text, is)| to.shown(text, is))
        };
        assert_eq!(show(to(true, true)), ["\u{1b}[2mhm", "hm", "\u{1b}[0myes"]);
        assert_eq!(show(to(true, false)), ["hm", "hm", "yes"]);
        assert_eq!(show(to(false, false)), ["", "", "yes\u{1b}"]);
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(bytes(12), "12 B");
        assert_eq!(bytes(1_100_000_000), "1.1 GB");
        assert_eq!(bytes(999_950), "1.0 MB");
        assert_eq!(bytes(3_000_000_000_000), "3.0 TB");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(milliseconds(84.4), "84 ms");
        assert_eq!(milliseconds(1240.0), "1.24 s");
    }
}
