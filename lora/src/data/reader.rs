//! One file, row by row: parsed, checked and, with an encoder, turned into examples.
//!
//! Memory does not grow with the file: a batch of records is in memory at a time.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
    sync::OnceLock,
};

use minicrit_quant::pool;

use super::{
    DataError, DataFile, FileReport, Format, FormatCounts, Problem, Record, Records, Rule,
    encode::{Encoded, Encoder, control_tokens_in},
    json::Node,
    problem::{Excerpt, Finding, Findings, Severity, quoted},
    records::MAX_RECORD,
    rows::Row,
    watch::Watch,
};

/// Records that decide a file's format.
const SAMPLE: usize = 1000;
/// Records of a batch, and their bytes.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 << 20;
/// Control tokens of the usual models, where no model is named.
const USUAL_CONTROLS: &[&str] = &[
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "</s>",
];

/// What became of one record.
pub(super) struct Outcome<'a> {
    /// The record as it stands in the file.
    pub record: &'a Record,
    /// What is wrong with it, in the order of places.
    pub problems: Vec<Problem>,
    /// Its examples; none without an encoder, none of a record that is rejected.
    pub examples: Vec<Encoded>,
    /// Whether it can't be used.
    pub rejected: bool,
}

struct Parsed {
    format: Option<Format>,
    rows: Vec<Row>,
    examples: Vec<Encoded>,
    findings: Findings,
}

/// Reads a file and calls `visit` for each record, in order.
pub(super) fn read(
    file: &DataFile,
    encoder: Option<&Encoder>,
    watch: &mut Watch,
    visit: &mut dyn FnMut(Outcome<'_>) -> Result<(), DataError>,
) -> Result<FileReport, DataError> {
    let failed = |source: io::Error| DataError::Read { path: file.path.clone(), source };
    let format = format_of(&file.path).map_err(failed)?;
    let mut hashing =
        Hashing { input: File::open(&file.path).map_err(failed)?, hasher: blake3::Hasher::new() };
    let mut records =
        Records::new(BufReader::with_capacity(1 << 16, &mut hashing)).map_err(failed)?;
    let mut report = FileReport::new(file, format, records.layout());
    let mut mark = records.has_byte_order_mark();
    watch.begin(file);
    let mut batch: Vec<Record> = Vec::new();
    loop {
        let more = fill(&mut records, &mut batch).map_err(failed)?;
        let parsed: Vec<OnceLock<Parsed>> = batch.iter().map(|_| OnceLock::new()).collect();
        pool::for_each(batch.len(), true, |it| {
            // Each place is written once, by whoever got its number.
            let _ = parsed[it].set(parse(&batch[it], format, encoder));
        });
        for (record, parsed) in batch.iter().zip(parsed) {
            let Some(mut parsed) = parsed.into_inner() else { continue };
            if std::mem::take(&mut mark) {
                let what = "the file begins with a byte order mark";
                parsed.findings.warning(Rule::ByteOrderMark, 0, what);
            }
            let rejected = parsed.findings.has_errors();
            if !rejected {
                watch.look(&parsed.rows, record.line, &mut parsed.findings);
            }
            let problems = placed(record, parsed.findings);
            report.add(parsed.format, rejected, &problems, &parsed.examples);
            let examples = if rejected { Vec::new() } else { parsed.examples };
            visit(Outcome { record, problems, examples, rejected })?;
        }
        if !more {
            break;
        }
    }
    drop(records);
    report.hash = hashing.hasher.finalize();
    report.bounded = watch.is_full();
    Ok(report)
}

/// The format of most of the first records: one line may be an exception.
fn format_of(path: &Path) -> io::Result<Option<Format>> {
    let mut records = Records::new(BufReader::new(File::open(path)?))?;
    let mut counts = FormatCounts::default();
    let mut record = Record::default();
    for _ in 0..SAMPLE {
        if !records.read(&mut record)? {
            break;
        }
        if let Ok(text) = std::str::from_utf8(&record.bytes)
            && let Ok(node) = Node::parse(text, &mut Findings::default())
            && let Some(format) = Format::of(&node)
        {
            counts.add(format);
        }
    }
    Ok(counts.most())
}

/// Fills a batch; `false` at the end of the file.
fn fill(records: &mut Records<impl io::BufRead>, batch: &mut Vec<Record>) -> io::Result<bool> {
    batch.clear();
    let mut bytes = 0;
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let mut record = Record::default();
        if !records.read(&mut record)? {
            return Ok(false);
        }
        bytes += record.bytes.len();
        batch.push(record);
    }
    Ok(true)
}

fn parse(record: &Record, expected: Option<Format>, encoder: Option<&Encoder>) -> Parsed {
    let mut findings = Findings::default();
    let mut parsed = Parsed {
        format: None,
        rows: Vec::new(),
        examples: Vec::new(),
        findings: Findings::default(),
    };
    match rows(record, expected, &mut findings) {
        Ok((format, rows)) => {
            parsed.format = Some(format);
            let usual: Vec<String>;
            let controls = match encoder {
                Some(encoder) => encoder.control_texts(),
                None => {
                    usual = USUAL_CONTROLS.iter().map(|it| (*it).to_owned()).collect();
                    &usual
                }
            };
            for row in &rows {
                control_tokens_in(row, controls, &mut findings);
                if let Some(encoder) = encoder {
                    parsed.examples.extend(encoder.encode(row, record.line, &mut findings));
                }
            }
            parsed.rows = rows;
        }
        Err(finding) => findings.0.push(finding),
    }
    parsed.findings = findings;
    parsed
}

fn rows(
    record: &Record,
    expected: Option<Format>,
    findings: &mut Findings,
) -> Result<(Format, Vec<Row>), Finding> {
    if record.cut {
        let what = format!("a line of more than {} MiB", MAX_RECORD >> 20);
        return Err(Finding::error(Rule::LineTooLong, 0, what));
    }
    let text = std::str::from_utf8(&record.bytes).map_err(|error| {
        let at = error.valid_up_to();
        let what = format!("the byte 0x{:02X} is no UTF-8", record.bytes[at]);
        Finding::error(Rule::Encoding, at, what)
    })?;
    let node = Node::parse(text, findings)?;
    let Some(fields) = node.as_object() else {
        let what = format!("a row is {}, not an object", node.kind());
        return Err(Finding::error(Rule::NotAnObject, node.offset, what));
    };
    let Some(format) = Format::of(&node) else {
        let keys: Vec<String> = fields.iter().take(8).map(|(name, _)| quoted(name)).collect();
        let what = match keys.is_empty() {
            true => "an object without keys".to_owned(),
            false => format!("no known format has these keys: {}", keys.join(", ")),
        };
        return Err(Finding::error(Rule::UnknownFormat, node.offset, what));
    };
    if let Some(expected) = expected.filter(|it| *it != format) {
        let what = format!("a row in the format {format}, in a file of the format {expected}");
        if expected.task() == format.task() {
            findings.warning(Rule::MixedFormats, node.offset, what);
        } else {
            findings.error(Rule::MixedFormats, node.offset, what);
        }
    }
    Ok((format, Row::parse(&node, format, findings)))
}

fn placed(record: &Record, findings: Findings) -> Vec<Problem> {
    let place = |it: Finding| {
        let (line, column) = record.place(it.offset);
        let Finding { rule, severity, what, offset } = it;
        let excerpt = Excerpt::around(&record.bytes, offset);
        Problem { rule, severity, line, column, what, fix: rule.fix(), excerpt }
    };
    let mut problems: Vec<Problem> = findings.0.into_iter().map(place).collect();
    problems.sort_by_key(|it| (it.line, it.column, it.severity == Severity::Warning));
    problems.dedup();
    problems
}

/// Bytes on their way, hashed as they pass.
struct Hashing<R> {
    input: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for &mut Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buffer)?;
        self.hasher.update(&buffer[..len]);
        Ok(len)
    }
}
