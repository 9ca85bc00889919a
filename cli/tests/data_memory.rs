//! `data check` takes the same memory for a file of any length.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufWriter, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
};

/// Where the table of rows that were seen is touched all over.
const FEW: u64 = 150_000;
const MANY: u64 = 450_000;
/// What an allocator may keep of the longer run.
const SLACK: u64 = 16 << 20;
/// Table of rows (128 MiB), a batch of records, and the program.
const MOST: u64 = 224 << 20;

fn write_rows(path: &Path, rows: u64) {
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    for row in 0..rows {
        writeln!(file, r#"{{"messages":[{{"role":"user","content":"question {row}"}},{{"role":"assistant","content":"answer {row}"}}]}}"#).unwrap();
    }
    // Every hundredth row is no row, so that problems do not gather either.
    for row in 0..rows / 100 {
        writeln!(file, "{{\"messages\": {row}}}").unwrap();
    }
    file.flush().unwrap();
}

/// Peak of the memory of a run, in bytes, as the kernel counted it.
fn peak(path: &Path) -> u64 {
    // `wait4` below waits for it, and tells its memory.
    #[allow(clippy::zombie_processes)]
    let child = Command::new(assert_cmd::cargo::cargo_bin!("minicrit"))
        .args(["data", "check", "--json"])
        .arg(path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both pointers are to writable places of the right types, and all zeros is a valid
    // `rusage`; nobody else waits for this child.
    let usage = unsafe {
        libc::wait4(child.id() as libc::pid_t, &mut status, 0, usage.as_mut_ptr());
        usage.assume_init()
    };
    let done = std::process::ExitStatus::from_raw(status);
    assert_eq!(done.code(), Some(1), "{done}");
    usage.ru_maxrss as u64 * 1024
}

#[test]
fn memory_does_not_grow_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let measure = |rows| {
        let path = dir.path().join(format!("{rows}.jsonl"));
        write_rows(&path, rows);
        peak(&path)
    };
    let (few, many) = (measure(FEW), measure(MANY));
    assert!(few > 1 << 20, "the peak was not seen: {few}");
    assert!(many < few + SLACK, "{FEW} rows take {few} bytes, {MANY} take {many}");
    assert!(many < MOST, "{many} bytes");
}
