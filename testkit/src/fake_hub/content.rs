//! What the hub has: repositories of small and large files.

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::request::{Reply, Request};

/// A file of a repository.
#[derive(Debug, Clone)]
pub struct FakeFile {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Stored apart and found under its SHA-256, as weights are.
    pub is_large: bool,
}

/// A repository at one commit.
#[derive(Debug, Clone)]
pub struct FakeRepo {
    /// `organization/name`.
    pub id: String,
    /// 40 hexadecimal digits.
    pub commit: String,
    /// Its files.
    pub files: Vec<FakeFile>,
    /// The token without which nobody gets in.
    pub gate: Option<String>,
}

impl FakeRepo {
    /// A repository whose commit follows from its content; names that end in `safetensors` or
    /// `gguf` are large files.
    pub fn new(id: &str, files: &[(&str, &[u8])]) -> Self {
        let files: Vec<FakeFile> = files
            .iter()
            .map(|(name, bytes)| FakeFile {
                name: (*name).to_owned(),
                bytes: bytes.to_vec(),
                is_large: name.ends_with("safetensors") || name.ends_with("gguf"),
            })
            .collect();
        let all: Vec<u8> = files.iter().flat_map(|it| it.bytes.iter().copied()).collect();
        Self { id: id.to_owned(), commit: git_blob(&all), files, gate: None }
    }

    /// As hubs list it with `?blobs=true`.
    pub fn listing(&self) -> Value {
        let siblings: Vec<Value> = self
            .files
            .iter()
            .map(|it| {
                let mut file = json!({
                    "rfilename": it.name, "size": it.bytes.len(), "blobId": git_blob(&it.bytes),
                });
                if it.is_large {
                    file["lfs"] = json!({
                        "sha256": sha256(&it.bytes), "size": it.bytes.len(), "pointerSize": 130,
                    });
                }
                file
            })
            .collect();
        json!({
            "id": self.id, "modelId": self.id, "sha": self.commit, "private": false,
            "gated": self.gate.is_some(), "siblings": siblings,
        })
    }

    pub(super) fn has_revision(&self, revision: &str) -> bool {
        revision == "main" || revision == self.commit
    }

    pub(super) fn refusal(&self, request: &Request) -> Option<Reply> {
        let gate = self.gate.as_ref()?;
        match &request.authorization {
            Some(it) if *it == format!("Bearer {gate}") => None,
            Some(_) => Some(Reply::status(403, json!({})).header("X-Error-Code", "GatedRepo")),
            None => Some(Reply::status(401, json!({})).header("X-Error-Code", "GatedRepo")),
        }
    }
}

/// SHA-256 in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// git's name of a file with these bytes.
pub fn git_blob(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()).as_bytes());
    hasher.update(bytes);
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}
