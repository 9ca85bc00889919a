//! The audit log: one line of JSON for each thing that was done to models and adapters, chained by
//! hashes, so that a line that was changed, added or taken out shows. Hashes and counts, no texts.
//!
//! ```text
//! {"seq":2,"time":"...","event":"pull","fields":{...},"previous":"HASH OF LINE 1","hash":"..."}
//! ```
//!
//! A line that a crash cut off is taken out by the next writer, who writes down that it did. What
//! the chain can't show is a log that was cut at its end: keep the last hash elsewhere for that.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result, name::hex};

/// What the first line calls the one before it.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The longest line that is written or believed.
const LINE_LIMIT: u64 = 1 << 20;
/// The event of a repaired end.
const REPAIRED: &str = "repaired";

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Number of the line, from 1.
    pub seq: u64,
    /// When, in UTC.
    pub time: String,
    /// What: `pull`, `train`, `merge`, `delete`, `promote`, ...
    pub event: String,
    /// Hashes, counts, names.
    pub fields: Map<String, Value>,
    /// Hash of the line before.
    pub previous: String,
    /// Hash of this line's other fields.
    pub hash: String,
}

impl Record {
    fn sealed(mut self) -> Result<Self> {
        self.hash = self.digest()?;
        Ok(self)
    }

    /// Over the line as it would stand without a hash; the chain is in `previous`.
    fn digest(&self) -> Result<String> {
        let bare = Self { hash: String::new(), ..self.clone() };
        Ok(hex(&Sha256::digest(line_of(&bare)?.as_bytes())))
    }
}

fn line_of(record: &Record) -> Result<String> {
    serde_json::to_string(record).map_err(|error| Error::AuditBroken {
        line: record.seq,
        problem: format!("it can't be written as JSON: {error}"),
    })
}

/// A log that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many lines.
    pub records: u64,
    /// Hash of the last one.
    pub last_hash: String,
}

/// The log in a file, which need not exist.
#[derive(Debug, Clone)]
pub struct AuditLog {
    path: PathBuf,
}

impl AuditLog {
    /// The log at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Adds a line and syncs it. Writers of several processes take turns.
    ///
    /// # Errors
    /// Those of the file system; `audit-broken` where the last line is not as it was written.
    pub fn append(&self, event: &str, fields: Map<String, Value>) -> Result<Record> {
        let mut file = self.open()?;
        file.lock().map_err(Error::disk("lock", &self.path))?;
        let (last, torn) = self.last(&mut file)?;
        let (mut seq, mut previous) =
            last.map_or((1, GENESIS.to_owned()), |it| (it.seq + 1, it.hash));
        if torn > 0 {
            let lost = Map::from_iter([("lost_bytes".to_owned(), torn.into())]);
            let record = record(seq, REPAIRED, lost, previous)?;
            self.write(&mut file, &record)?;
            (seq, previous) = (seq + 1, record.hash);
        }
        let record = record(seq, event, fields, previous)?;
        self.write(&mut file, &record)?;
        Ok(record)
    }

    /// Reads the whole log and checks every link of the chain.
    ///
    /// # Errors
    /// `audit-broken`, with the first line that is wrong.
    pub fn verify(&self) -> Result<Verified> {
        let mut verified = Verified { records: 0, last_hash: GENESIS.to_owned() };
        for record in self.records()? {
            verified.records = record.seq;
            verified.last_hash = record.hash;
        }
        Ok(verified)
    }

    /// Every line, checked; an unfinished one at the end is left out.
    ///
    /// # Errors
    /// `audit-broken`, with the first line that is wrong.
    pub fn records(&self) -> Result<Vec<Record>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::disk("read", &self.path)(error)),
        };
        let mut records: Vec<Record> = Vec::new();
        let end = bytes.iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
        for line in bytes[..end].split_inclusive(|it| *it == b'\n') {
            let seq = records.len() as u64 + 1;
            let previous = records.last().map_or(GENESIS, |it| it.hash.as_str());
            let record = checked(line, seq)?;
            if record.seq != seq || record.previous != previous {
                let problem = "it does not follow the line before".to_owned();
                return Err(Error::AuditBroken { line: seq, problem });
            }
            records.push(record);
        }
        Ok(records)
    }

    fn open(&self) -> Result<File> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::disk("create", folder))?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&self.path).map_err(Error::disk("open", &self.path))
    }

    /// The last whole line, and the bytes behind it, which are cut off.
    fn last(&self, file: &mut File) -> Result<(Option<Record>, u64)> {
        let failed = |error| Error::disk("read", &self.path)(error);
        let length = file.metadata().map_err(failed)?.len();
        let from = length.saturating_sub(2 * LINE_LIMIT);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        file.read_to_end(&mut tail).map_err(failed)?;
        let end = tail.iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
        let torn = (tail.len() - end) as u64;
        if torn > 0 {
            file.set_len(length - torn).map_err(Error::disk("write", &self.path))?;
        }
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let Some(before) = end.checked_sub(1) else { return Ok((None, torn)) };
        let start = tail[..before].iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
        // The number of the line is its own word here: `verify` counts them.
        let seq = serde_json::from_slice::<Record>(&tail[start..end]).map_or(0, |it| it.seq);
        Ok((Some(checked(&tail[start..end], seq)?), torn))
    }

    fn write(&self, file: &mut File, record: &Record) -> Result<()> {
        let line = line_of(record)? + "\n";
        if line.len() as u64 > LINE_LIMIT {
            let problem = "it is too long to be written".to_owned();
            return Err(Error::AuditBroken { line: record.seq, problem });
        }
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_data())
            .map_err(Error::disk("write", &self.path))
    }
}

fn record(seq: u64, event: &str, fields: Map<String, Value>, previous: String) -> Result<Record> {
    let time = jiff::Timestamp::now().to_string();
    let event = event.to_owned();
    Record { seq, time, event, fields, previous, hash: String::new() }.sealed()
}

/// A line that is byte for byte what its own content gives.
fn checked(line: &[u8], seq: u64) -> Result<Record> {
    let broken = |problem: &str| Error::AuditBroken { line: seq, problem: problem.to_owned() };
    let record: Record =
        serde_json::from_slice(line).map_err(|_| broken("it is no line of an audit log"))?;
    let again = line_of(&record)? + "\n";
    if again.as_bytes() != line || record.digest()? != record.hash {
        return Err(broken("it was changed after it was written"));
    }
    Ok(record)
}

/// The log of a data folder.
pub fn of_folder(folder: &Path) -> AuditLog {
    AuditLog::new(folder.join("audit.jsonl"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn log(lines: usize) -> (tempfile::TempDir, AuditLog) {
        let dir = tempfile::tempdir().unwrap();
        let log = of_folder(dir.path());
        for at in 0..lines {
            log.append("pull", Map::from_iter([("bytes".to_owned(), at.into())])).unwrap();
        }
        (dir, log)
    }

    #[test]
    fn every_flipped_bit_is_found_and_its_line_named() {
        let (_dir, log) = log(5);
        assert_eq!(log.verify().unwrap().records, 5);
        let good = std::fs::read(&log.path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            std::fs::write(&log.path, &bad).unwrap();
            let line = good[..at].iter().filter(|it| **it == b'\n').count() as u64 + 1;
            match log.verify() {
                Err(Error::AuditBroken { line: found, .. }) => assert_eq!(found, line, "byte {at}"),
                // Only the last line's end can be taken for one that was never finished.
                Ok(it) => assert!(at + 1 == good.len() && it.records == 4, "byte {at}: {it:?}"),
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }

    #[test]
    fn lines_can_not_be_taken_out_or_swapped() {
        let (_dir, log) = log(4);
        let text = std::fs::read_to_string(&log.path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for order in [vec![0, 2, 3], vec![1, 2, 3], vec![0, 2, 1, 3], vec![0, 1, 1, 2, 3]] {
            let changed: String = order.iter().map(|it| format!("{}\n", lines[*it])).collect();
            std::fs::write(&log.path, changed).unwrap();
            assert!(log.verify().is_err(), "{order:?}");
        }
    }

    #[test]
    fn a_torn_end_is_repaired_and_written_down() {
        let (_dir, log) = log(3);
        let text = std::fs::read(&log.path).unwrap();
        let third =
            text.len() - 1 - text[..text.len() - 1].iter().rposition(|it| *it == b'\n').unwrap();
        for cut in [1, 5, third - 1] {
            std::fs::write(&log.path, &text[..text.len() - cut]).unwrap();
            assert_eq!(log.verify().unwrap().records, 2);
            log.append("delete", Map::new()).unwrap();
            let events: Vec<String> =
                log.records().unwrap().into_iter().map(|it| it.event).collect();
            assert_eq!(events, ["pull", "pull", "repaired", "delete"], "cut {cut}");
        }
    }

    #[test]
    fn writers_take_turns() {
        let (_dir, log) = log(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| drop(log.append("use", Map::new()).unwrap())));
            }
        });
        assert_eq!(log.verify().unwrap().records, 160);
    }
}
