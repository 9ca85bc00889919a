//! A stream of bytes as records: the lines of a JSONL file, or the items of a JSON array.
//!
//! One record is in memory at a time, and none is longer than [`MAX_RECORD`].

use std::io::{self, BufRead};

/// Longest record that is kept; no model has a context for more.
pub const MAX_RECORD: usize = 16 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A record's text and where it begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The bytes, without the line's end.
    pub bytes: Vec<u8>,
    /// Line of the first byte, from 1.
    pub line: u64,
    /// Column of the first byte, from 1, in bytes.
    pub column: u64,
    /// Whether there was more of it than is kept.
    pub cut: bool,
}

impl Record {
    /// Line and column (in characters, both from 1) of a byte of the record.
    pub fn place(&self, offset: usize) -> (u64, u64) {
        let before = &self.bytes[..offset.min(self.bytes.len())];
        let newlines = before.iter().filter(|&&it| it == b'\n').count() as u64;
        let start = before.iter().rposition(|&it| it == b'\n').map_or(0, |it| it + 1);
        // Every character has one byte that continues nothing.
        let chars = before[start..].iter().filter(|&&it| it & 0xC0 != 0x80).count() as u64;
        let first = if newlines == 0 { self.column } else { 1 };
        (self.line + newlines, first + chars)
    }
}

/// How a file separates its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A row on each line.
    Lines,
    /// A JSON array of rows.
    Array,
}

/// The records of a stream.
#[derive(Debug)]
pub struct Records<R> {
    input: R,
    layout: Layout,
    byte_order_mark: bool,
    line: u64,
    column: u64,
    array: ArrayState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ArrayState {
    BeforeItem,
    AfterEnd,
}

impl<R: BufRead> Records<R> {
    /// Looks at the first bytes: a stream that begins with `[` is an array.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn new(mut input: R) -> io::Result<Self> {
        let start = input.fill_buf()?;
        let byte_order_mark = start.starts_with(BYTE_ORDER_MARK);
        if byte_order_mark {
            input.consume(BYTE_ORDER_MARK.len());
        }
        let start = input.fill_buf()?;
        let first = start.iter().find(|it| !it.is_ascii_whitespace());
        let layout = if first == Some(&b'[') { Layout::Array } else { Layout::Lines };
        let mut records = Self {
            input,
            layout,
            byte_order_mark,
            line: 1,
            column: 1,
            array: ArrayState::BeforeItem,
        };
        if layout == Layout::Array {
            records.skip_whitespace()?;
            records.take()?;
        }
        Ok(records)
    }

    /// How the stream separates its records.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether the stream began with a byte order mark.
    pub fn has_byte_order_mark(&self) -> bool {
        self.byte_order_mark
    }

    /// Puts the next record into `record`; empty lines are skipped. `false` at the end.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn read(&mut self, record: &mut Record) -> io::Result<bool> {
        record.bytes.clear();
        record.cut = false;
        match self.layout {
            Layout::Lines => self.read_line(record),
            Layout::Array => self.read_item(record),
        }
    }

    fn read_line(&mut self, record: &mut Record) -> io::Result<bool> {
        loop {
            record.bytes.clear();
            record.line = self.line;
            record.column = 1;
            let mut any = false;
            loop {
                let buffer = self.input.fill_buf()?;
                if buffer.is_empty() {
                    break;
                }
                any = true;
                let end = buffer.iter().position(|&it| it == b'\n');
                keep(record, &buffer[..end.unwrap_or(buffer.len())]);
                let len = end.map_or(buffer.len(), |it| it + 1);
                self.input.consume(len);
                if end.is_some() {
                    self.line += 1;
                    break;
                }
            }
            if record.bytes.last() == Some(&b'\r') {
                record.bytes.pop();
            }
            if !any || !record.bytes.iter().all(u8::is_ascii_whitespace) {
                return Ok(any);
            }
        }
    }

    /// An item runs to the comma or bracket at its own depth. What is not JSON ends there too, and
    /// whoever parses the item says what is wrong with it.
    fn read_item(&mut self, record: &mut Record) -> io::Result<bool> {
        self.skip_whitespace()?;
        record.line = self.line;
        record.column = self.column;
        if self.array == ArrayState::AfterEnd {
            return self.read_rest(record);
        }
        let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
        while let Some(byte) = self.take()? {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 0 => depth -= 1,
                b',' if depth == 0 => return Ok(true),
                b']' if depth == 0 => {
                    self.array = ArrayState::AfterEnd;
                    trim_end(record);
                    if record.bytes.is_empty() {
                        return self.read_item(record);
                    }
                    return Ok(true);
                }
                _ => {}
            }
            keep(record, &[byte]);
        }
        trim_end(record);
        // An array that nobody closes: the parser shall see that the end is missing.
        let open = self.array == ArrayState::BeforeItem;
        self.array = ArrayState::AfterEnd;
        if open && record.bytes.is_empty() {
            record.bytes.push(b'[');
        }
        Ok(open)
    }

    /// Whatever follows the array, in one record.
    fn read_rest(&mut self, record: &mut Record) -> io::Result<bool> {
        while let Some(byte) = self.take()? {
            keep(record, &[byte]);
        }
        trim_end(record);
        Ok(!record.bytes.is_empty())
    }

    fn skip_whitespace(&mut self) -> io::Result<()> {
        while self.input.fill_buf()?.first().is_some_and(u8::is_ascii_whitespace) {
            self.take()?;
        }
        Ok(())
    }

    fn take(&mut self) -> io::Result<Option<u8>> {
        let Some(&byte) = self.input.fill_buf()?.first() else {
            return Ok(None);
        };
        self.input.consume(1);
        if byte == b'\n' {
            self.line += 1;
            self.column = 1;
        } else if byte & 0xC0 != 0x80 {
            self.column += 1;
        }
        Ok(Some(byte))
    }
}

fn keep(record: &mut Record, bytes: &[u8]) {
    let room = MAX_RECORD - record.bytes.len();
    record.cut |= bytes.len() > room;
    record.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

fn trim_end(record: &mut Record) {
    let kept = record.bytes.trim_ascii_end().len();
    record.bytes.truncate(kept);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(&str, u64, u64)]) {
        // A buffer of three bytes cuts everywhere.
        let input = io::BufReader::with_capacity(3, text.as_bytes());
        let mut records = Records::new(input).unwrap();
        let mut record = Record::default();
        let mut seen = Vec::new();
        while records.read(&mut record).unwrap() {
            let text = String::from_utf8(record.bytes.clone()).unwrap();
            seen.push((text, record.line, record.column));
        }
        let expect: Vec<_> = expect.iter().map(|it| (it.0.to_string(), it.1, it.2)).collect();
        assert_eq!(seen, expect, "{text:?}");
    }

    #[test]
    fn lines_are_records() {
        check("", &[]);
        check("a\nb", &[("a", 1, 1), ("b", 2, 1)]);
        check("a\r\n\n  \nbcdef\n", &[("a", 1, 1), ("bcdef", 4, 1)]);
        check("\u{FEFF}a\n", &[("a", 1, 1)]);
    }

    #[test]
    fn items_of_an_array_are_records() {
        check("[]", &[]);
        check(
            "[{\"a\": \"],\\\"\"},\n  [1, 2]\n]\n",
            &[("{\"a\": \"],\\\"\"}", 1, 2), ("[1, 2]", 2, 3)],
        );
        check("[1, 2] x", &[("1", 1, 2), ("2", 1, 5), ("x", 1, 8)]);
        check("[{\"a\": 1", &[("{\"a\": 1", 1, 2)]);
        check("[1,", &[("1", 1, 2), ("[", 1, 4)]);
    }

    #[test]
    fn places_count_characters_and_lines() {
        let record = Record { bytes: "{\"é\": 1,\n  x".into(), line: 7, column: 3, cut: false };
        assert_eq!(record.place(0), (7, 3));
        assert_eq!(record.place(5), (7, 7));
        assert_eq!(record.place(12), (8, 3));
        assert_eq!(record.place(99), (8, 4));
    }

    #[test]
    fn a_record_without_end_takes_bounded_memory() {
        let long = vec![b'x'; MAX_RECORD + 10];
        let mut records = Records::new(io::Cursor::new([&long[..], b"\nb"].concat())).unwrap();
        let mut record = Record::default();
        assert!(records.read(&mut record).unwrap());
        assert!(record.cut && record.bytes.len() == MAX_RECORD);
        assert!(records.read(&mut record).unwrap());
        assert_eq!((record.bytes.as_slice(), record.line, record.cut), (&b"b"[..], 2, false));
    }
}
