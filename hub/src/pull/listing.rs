//! The list of a repository's files: names, sizes and digests, as the hub's API tells them.

use serde_json::Value;

use crate::{
    Error, Result,
    name::{Commit, Digest, RepoId, SafeName},
    reference::Reference,
    settings::Limits,
    wire::{Answer, Client, Stop, Tries, Trouble},
};

use super::select;

/// A file that is wanted, and what it must turn out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name in the repository.
    pub name: SafeName,
    /// Its size in bytes.
    pub size: u64,
    /// What its bytes hash to.
    pub digest: Digest,
}

/// A repository at one moment: whatever happens to its branch, this is what is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The moment.
    pub commit: Commit,
    /// The files that are a model.
    pub files: Vec<Wanted>,
}

/// Largest size that is believed: it decides how much room is asked for.
const SIZE_LIMIT: u64 = 1 << 44;

/// Asks the hub.
///
/// # Errors
/// Missing, gated, refused; names and digests that can't be trusted.
pub fn fetch(
    client: &Client,
    reference: &Reference,
    limits: &Limits,
    stop: &Stop,
) -> Result<Listing> {
    let revision = reference.revision().replace('/', "%2F");
    let url = client.url(&format!("/api/models/{}/revision/{revision}?blobs=true", reference.repo));
    let mut tries = Tries::new(limits, stop);
    loop {
        let trouble = match client.json(&url) {
            Ok((answer, Some(list))) => return read(reference, &answer.host, &list),
            Ok((answer, None)) => refusal(client, reference, None, &answer),
            Err(trouble) => trouble,
        };
        tries.after(trouble, |_, _| ())?;
    }
}

/// What a status that is no success means on a hub.
pub(super) fn refusal(
    client: &Client,
    reference: &Reference,
    file: Option<&SafeName>,
    answer: &Answer,
) -> Trouble {
    if let Some(trouble) = answer.trouble() {
        return trouble;
    }
    let repo = reference.repo.clone();
    let with_token = client.has_token();
    let page = client.url(&format!("/{repo}"));
    let host = client.host();
    let missing = || Error::RepoNotFound { repo: repo.clone(), host: host.clone(), with_token };
    let code = answer.hub_header("x-error-code").unwrap_or_default();
    let error = match (answer.status().as_u16(), code, file) {
        (_, "GatedRepo", _) => Error::Gated { repo, page, with_token },
        (_, "RepoNotFound", _) => missing(),
        (_, "RevisionNotFound", _) => {
            Error::RevisionNotFound { repo, revision: reference.revision().to_owned() }
        }
        (404, _, Some(file)) => Error::RemoteFileNotFound { repo, file: file.to_string() },
        (404, ..) => missing(),
        (401, ..) if with_token => Error::BadToken { host },
        // Without a token the hub does not tell a private repository from a missing one.
        (401, _, None) => missing(),
        (401 | 403, ..) => Error::Gated { repo, page, with_token },
        // The signed address of a file on another host grows old; the next try gets a fresh one.
        (400..=499, _, Some(_)) if answer.host != host => {
            return Trouble::passing(Error::Server {
                host: answer.host.clone(),
                status: answer.status().as_u16(),
            });
        }
        (status, ..) => Error::Server { host: answer.host.clone(), status },
    };
    Trouble::Final(error)
}

/// The files of the answer that are a model.
fn read(reference: &Reference, host: &str, list: &Value) -> Result<Listing> {
    let bad = |problem: String| Error::BadAnswer { host: host.to_owned(), problem };
    let commit = list
        .get("sha")
        .and_then(Value::as_str)
        .and_then(Commit::parse)
        .ok_or_else(|| bad("a list of files without a commit".to_owned()))?;
    if Commit::parse(reference.revision()).is_some_and(|it| it != commit) {
        return Err(bad(format!("another commit than the one asked for: {commit}")));
    }
    let siblings = list
        .get("siblings")
        .and_then(Value::as_array)
        .ok_or_else(|| bad("a repository without a list of files".to_owned()))?;
    let name_of = |it: &Value| it.get("rfilename").and_then(Value::as_str).map(str::to_owned);
    let named: Vec<(String, &Value)> =
        siblings.iter().filter_map(|it| Some((name_of(it)?, it))).collect();
    let names: Vec<&str> = named.iter().map(|it| it.0.as_str()).collect();
    let chosen = select::files(&reference.repo, &names, reference.gguf.as_deref())?;
    let mut files = Vec::new();
    for (name, sibling) in named.iter().filter(|it| chosen.contains(&it.0.as_str())) {
        let wanted = wanted(SafeName::parse(name)?, sibling).map_err(bad)?;
        if files.iter().any(|it: &Wanted| it.name == wanted.name) {
            return Err(bad(format!("two files of the name `{}`", wanted.name)));
        }
        files.push(wanted);
    }
    Ok(Listing { commit, files })
}

/// One file of the list: its size and digest must be there. The error is the problem.
fn wanted(name: SafeName, sibling: &Value) -> std::result::Result<Wanted, String> {
    let lfs = sibling.get("lfs").filter(|it| it.is_object());
    let text = |from: Option<&Value>, key: &str| {
        from.and_then(|it| it.get(key)).and_then(Value::as_str).and_then(Digest::parse)
    };
    let digest = match lfs {
        Some(_) => text(lfs, "sha256").filter(|it| matches!(it, Digest::Sha256(_))),
        None => text(Some(sibling), "blobId").filter(|it| matches!(it, Digest::GitBlob(_))),
    };
    let digest = digest.ok_or_else(|| format!("no digest for `{name}`"))?;
    let size = lfs.unwrap_or(sibling).get("size").and_then(Value::as_u64);
    let size = size
        .filter(|it| *it <= SIZE_LIMIT)
        .ok_or_else(|| format!("no believable size for `{name}`"))?;
    Ok(Wanted { name, size, digest })
}

/// The address of a file of a commit.
pub(super) fn address(client: &Client, repo: &RepoId, commit: &Commit, name: &SafeName) -> String {
    let escaped: Vec<String> = name.components().map(escape).collect();
    client.url(&format!("/{repo}/resolve/{commit}/{}", escaped.join("/")))
}

fn escape(component: &str) -> String {
    component.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    const SHA: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    const COMMIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    fn read_list(list: &Value) -> Result<Listing> {
        read(&Reference::parse("a/b").unwrap(), "hub", list)
    }

    fn with(sibling: Value) -> Value {
        let config = json!({"rfilename": "config.json", "size": 2, "blobId": COMMIT});
        json!({"sha": COMMIT, "siblings": [config, sibling]})
    }

    #[test]
    fn a_list_gives_names_sizes_and_digests() {
        let weights = json!({
            "rfilename": "model.safetensors", "size": 9, "blobId": COMMIT,
            "lfs": {"sha256": SHA, "size": 9, "pointerSize": 130},
        });
        let listing = read_list(&with(weights)).unwrap();
        assert_eq!(listing.files.len(), 2);
        assert_eq!(listing.files[1].digest.as_str(), SHA);
        assert_eq!(listing.files[0].digest.as_str(), COMMIT);
    }

    #[test]
    fn what_can_not_be_checked_is_not_fetched() {
        let lfs = |sha: &str, size: Value| {
            with(json!({"rfilename": "model.safetensors", "lfs": {"sha256": sha, "size": size}}))
        };
        for list in [
            json!({}),
            json!({"sha": "main", "siblings": []}),
            json!({"sha": COMMIT}),
            lfs("", json!(9)),
            lfs(COMMIT, json!(9)),
            lfs(&format!("../{}", &SHA[3..]), json!(9)),
            lfs(SHA, json!(-1)),
            lfs(SHA, json!(u64::MAX)),
            lfs(SHA, json!("9")),
            with(json!({"rfilename": "model.safetensors", "size": 9})),
            with(json!({"rfilename": "x/../model.gguf", "size": 9, "blobId": COMMIT})),
        ] {
            assert!(read_list(&list).is_err(), "{list}");
        }
    }

    #[test]
    fn addresses_are_escaped() {
        assert_eq!(escape("a b#c%d+e"), "a%20b%23c%25d%2Be");
    }
}
