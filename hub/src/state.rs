//! What this program remembers about models, adapters and jobs: one embedded SQLite database.
//!
//! Files are the truth about what is here (see [`crate::cache`]); the database adds what files can't
//! say: who pulled it, when it was used, which version of an adapter is the active one. Without it
//! every command still works.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::{Error, Result};

/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(10);

/// Each brings a database from the version of its position to the next. Never change one: add one.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE models (
        repo TEXT NOT NULL, revision TEXT NOT NULL, commit_id TEXT NOT NULL,
        bytes INTEGER NOT NULL, pulled_at TEXT NOT NULL, used_at TEXT, uses INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (repo, revision)
    ) STRICT;
    CREATE TABLE adapters (
        name TEXT NOT NULL, version INTEGER NOT NULL, path TEXT NOT NULL, base TEXT NOT NULL,
        digest TEXT NOT NULL, created_at TEXT NOT NULL, active INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (name, version)
    ) STRICT;
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, status TEXT NOT NULL, model TEXT NOT NULL,
        detail TEXT NOT NULL, created_at TEXT NOT NULL, changed_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE usage (
        day TEXT NOT NULL, model TEXT NOT NULL, runs INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL, generated_tokens INTEGER NOT NULL,
        PRIMARY KEY (day, model)
    ) STRICT;
"];

/// A model that this program pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledModel {
    /// `organization/name`.
    pub repo: String,
    /// Branch, tag or commit that was asked for.
    pub revision: String,
    /// The commit it was.
    pub commit: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was pulled, in UTC.
    pub pulled_at: String,
    /// When it was last used, in UTC.
    pub used_at: Option<String>,
    /// How often.
    pub uses: u64,
}

/// A version of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterVersion {
    /// Name that all its versions share.
    pub name: String,
    /// From 1.
    pub version: u64,
    /// Its folder.
    pub path: String,
    /// The model that it was trained on.
    pub base: String,
    /// Digest of its weights.
    pub digest: String,
    /// Whether this version is the one in use.
    pub active: bool,
}

/// A piece of long work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Unique.
    pub id: String,
    /// `pull`, `finetune`, ...
    pub kind: String,
    /// `running`, `done`, `failed`, ...
    pub status: String,
    /// The model it is about.
    pub model: String,
    /// JSON, as the kind has it.
    pub detail: String,
}

/// The open database.
#[derive(Debug)]
pub struct State {
    connection: Connection,
    path: PathBuf,
}

impl State {
    /// Opens the database of a data folder; makes it, or brings it to this version, where needed.
    ///
    /// # Errors
    /// `state`: a file that is no database, or one of a newer program.
    pub fn open(data_folder: &Path) -> Result<Self> {
        let path = data_folder.join("library.db");
        create_private(data_folder).map_err(Error::disk("create", data_folder))?;
        let failed = |error| Error::state(&path, &error);
        let mut connection = Connection::open(&path).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let version: i64 = transaction
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(failed)?;
        let version = usize::try_from(version).unwrap_or(usize::MAX);
        if version > MIGRATIONS.len() {
            let problem = format!("it is of a newer minicrit: version {version}");
            return Err(Error::State { path, problem });
        }
        for migration in &MIGRATIONS[version..] {
            transaction.execute_batch(migration).map_err(failed)?;
        }
        if version < MIGRATIONS.len() {
            transaction
                .pragma_update(None, "user_version", signed(MIGRATIONS.len() as u64))
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(Self { connection, path })
    }

    /// Remembers a pull.
    ///
    /// # Errors
    /// `state`.
    pub fn pulled(&self, repo: &str, revision: &str, commit: &str, bytes: u64) -> Result<()> {
        self.execute(
            "INSERT INTO models (repo, revision, commit_id, bytes, pulled_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (repo, revision) DO UPDATE SET
                 commit_id = ?3, bytes = ?4, pulled_at = ?5",
            params![repo, revision, commit, signed(bytes), now()],
        )
    }

    /// Models that this program pulled.
    ///
    /// # Errors
    /// `state`.
    pub fn models(&self) -> Result<Vec<PulledModel>> {
        let sql = "SELECT repo, revision, commit_id, bytes, pulled_at, used_at, uses FROM models
                   ORDER BY repo, revision";
        self.rows(sql, |row| {
            Ok(PulledModel {
                repo: row.get(0)?,
                revision: row.get(1)?,
                commit: row.get(2)?,
                bytes: unsigned(row.get(3)?),
                pulled_at: row.get(4)?,
                used_at: row.get(5)?,
                uses: unsigned(row.get(6)?),
            })
        })
    }

    /// Forgets a commit that was taken away.
    ///
    /// # Errors
    /// `state`.
    pub fn forget_model(&self, repo: &str, commit: &str) -> Result<()> {
        self.execute("DELETE FROM models WHERE repo = ?1 AND commit_id = ?2", params![repo, commit])
    }

    /// Counts a run of a model, by its repository where it has one.
    ///
    /// # Errors
    /// `state`.
    pub fn used(&self, model: &str, prompt_tokens: u64, generated_tokens: u64) -> Result<()> {
        let now = now();
        let day = now.get(..10).unwrap_or(&now);
        self.execute(
            "INSERT INTO usage VALUES (?1, ?2, 1, ?3, ?4) ON CONFLICT (day, model) DO UPDATE SET
                 runs = runs + 1, prompt_tokens = prompt_tokens + ?3,
                 generated_tokens = generated_tokens + ?4",
            params![day, model, signed(prompt_tokens), signed(generated_tokens)],
        )?;
        self.execute(
            "UPDATE models SET used_at = ?2, uses = uses + 1 WHERE repo = ?1",
            params![model, now],
        )
    }

    /// Tokens read and generated with a model, of all days.
    ///
    /// # Errors
    /// `state`.
    pub fn usage(&self, model: &str) -> Result<(u64, u64)> {
        let sql = "SELECT coalesce(sum(prompt_tokens), 0), coalesce(sum(generated_tokens), 0)
                   FROM usage WHERE model = ?1";
        self.connection
            .query_row(sql, [model], |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))))
            .map_err(|error| Error::state(&self.path, &error))
    }

    /// Adds a version of an adapter and makes it the active one. Gives its number.
    ///
    /// # Errors
    /// `state`.
    pub fn add_adapter(&mut self, name: &str, path: &str, base: &str, digest: &str) -> Result<u64> {
        let at = self.path.clone();
        let failed = |error| Error::state(&at, &error);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let last: i64 = transaction
            .query_row(
                "SELECT coalesce(max(version), 0) FROM adapters WHERE name = ?1",
                [name],
                |row| row.get(0),
            )
            .map_err(failed)?;
        transaction
            .execute("UPDATE adapters SET active = 0 WHERE name = ?1", [name])
            .map_err(failed)?;
        transaction
            .execute(
                "INSERT INTO adapters VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)",
                params![name, last + 1, path, base, digest, now()],
            )
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(unsigned(last + 1))
    }

    /// All versions of all adapters.
    ///
    /// # Errors
    /// `state`.
    pub fn adapters(&self) -> Result<Vec<AdapterVersion>> {
        let sql =
            "SELECT name, version, path, base, digest, active FROM adapters ORDER BY name, version";
        self.rows(sql, |row| {
            Ok(AdapterVersion {
                name: row.get(0)?,
                version: unsigned(row.get(1)?),
                path: row.get(2)?,
                base: row.get(3)?,
                digest: row.get(4)?,
                active: row.get(5)?,
            })
        })
    }

    /// Makes another version of an adapter the active one; `false` where there is no such version.
    ///
    /// # Errors
    /// `state`.
    pub fn activate_adapter(&self, name: &str, version: u64) -> Result<bool> {
        let known = self
            .connection
            .query_row(
                "SELECT 1 FROM adapters WHERE name = ?1 AND version = ?2",
                params![name, signed(version)],
                |_| Ok(()),
            )
            .optional()
            .map_err(|error| Error::state(&self.path, &error))?;
        if known.is_none() {
            return Ok(false);
        }
        let sql = "UPDATE adapters SET active = (version = ?2) WHERE name = ?1";
        self.execute(sql, params![name, signed(version)])?;
        Ok(true)
    }

    /// Adds a job, or changes the one of this id.
    ///
    /// # Errors
    /// `state`.
    pub fn put_job(&self, job: &Job) -> Result<()> {
        let Job { id, kind, status, model, detail } = job;
        self.execute(
            "INSERT INTO jobs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT (id) DO UPDATE SET
                 status = ?3, detail = ?5, changed_at = ?6",
            params![id, kind, status, model, detail, now()],
        )
    }

    /// All jobs, the newest first.
    ///
    /// # Errors
    /// `state`.
    pub fn jobs(&self) -> Result<Vec<Job>> {
        let sql = "SELECT id, kind, status, model, detail FROM jobs ORDER BY created_at DESC, id";
        self.rows(sql, |row| {
            Ok(Job {
                id: row.get(0)?,
                kind: row.get(1)?,
                status: row.get(2)?,
                model: row.get(3)?,
                detail: row.get(4)?,
            })
        })
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<()> {
        self.connection
            .execute(sql, params)
            .map(|_| ())
            .map_err(|error| Error::state(&self.path, &error))
    }

    fn rows<T>(
        &self,
        sql: &str,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let all = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map([], read)?.collect()
        };
        all().map_err(|error| Error::state(&self.path, &error))
    }
}

fn create_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// SQLite's numbers are signed; none of ours comes near the end.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn models_and_their_uses_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        state.pulled("a/b", "main", "c1", 10).unwrap();
        state.pulled("a/b", "main", "c2", 20).unwrap();
        state.used("a/b", 3, 4).unwrap();
        state.used("a/b", 3, 4).unwrap();
        drop(state);
        let state = State::open(dir.path()).unwrap();
        let models = state.models().unwrap();
        assert_eq!((models.len(), models[0].commit.as_str(), models[0].uses), (1, "c2", 2));
        assert_eq!(state.usage("a/b").unwrap(), (6, 8));
        state.forget_model("a/b", "c2").unwrap();
        assert!(state.models().unwrap().is_empty());
    }

    #[test]
    fn one_version_of_an_adapter_is_active() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(dir.path()).unwrap();
        for version in 1..=3 {
            assert_eq!(state.add_adapter("x", "p", "nano", "d").unwrap(), version);
        }
        let active = |state: &State| {
            let all = state.adapters().unwrap();
            all.iter().filter(|it| it.active).map(|it| it.version).collect::<Vec<_>>()
        };
        assert_eq!(active(&state), [3]);
        assert!(
            state.activate_adapter("x", 1).unwrap() && !state.activate_adapter("x", 9).unwrap()
        );
        assert_eq!(active(&state), [1]);
    }

    #[test]
    fn jobs_change() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let job = |status: &str| Job {
            id: "1".into(),
            kind: "finetune".into(),
            status: status.into(),
            model: "nano".into(),
            detail: "{}".into(),
        };
        state.put_job(&job("running")).unwrap();
        state.put_job(&job("done")).unwrap();
        assert_eq!(state.jobs().unwrap(), [job("done")]);
    }

    #[test]
    fn many_writers_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let state = State::open(dir.path()).unwrap();
                    (0..10).for_each(|_| state.used("m", 1, 1).unwrap());
                });
            }
        });
        assert_eq!(State::open(dir.path()).unwrap().usage("m").unwrap(), (80, 80));
    }

    #[test]
    fn what_is_no_database_or_a_newer_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("library.db"), "this is no database, not at all").unwrap();
        assert!(matches!(State::open(dir.path()), Err(Error::State { .. })));
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        state.connection.pragma_update(None, "user_version", 99).unwrap();
        drop(state);
        let error = State::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("newer"), "{error}");
    }
}
