//! Memory: what there is, what a model needs, and a refusal before the system's.

use minicrit_engine::{
    cache::CacheType,
    recipe::{Mix, Recipe, RoundedBytes},
    registry::{Entry, StoredType},
    source::ModelFiles,
};

use crate::{errors::Failure, printer};

/// Context that is planned for where the user names none; the cache grows with the text.
const PLANNED_CONTEXT: u64 = 4096;
/// Room for activations, logits and the program itself.
const WORKING_BYTES: u64 = 64 << 20;

/// What this process may use now.
#[derive(Debug, Clone, Copy)]
pub struct Available {
    /// Bytes.
    pub bytes: u64,
    /// Which limit is the tightest.
    pub limit: &'static str,
    /// Bytes in the machine.
    pub machine_bytes: u64,
    /// The limit of this process's cgroup, where there is one below the machine.
    pub cgroup_bytes: Option<u64>,
}

/// The tightest of: what the system calls available, the cgroup's rest, the address-space limit.
pub fn available() -> Available {
    let Ok(mut system) = sysinfo::System::new() else {
        let (bytes, limit) = (u64::MAX, "a system that does not tell");
        return Available { bytes, limit, machine_bytes: u64::MAX, cgroup_bytes: None };
    };
    system.refresh_memory();
    let machine_bytes = system.total_memory();
    let mut best = (system.available_memory(), "this machine's free memory");
    let cgroup = system.cgroup_limits().filter(|it| it.total_memory < machine_bytes);
    if let Some(cgroup) = &cgroup
        && cgroup.free_memory < best.0
    {
        best = (cgroup.free_memory, "this process's cgroup");
    }
    if let Some(rest) = address_space_left()
        && rest < best.0
    {
        best = (rest, "this process's address-space limit (ulimit -v)");
    }
    let cgroup_bytes = cgroup.map(|it| it.total_memory);
    Available { bytes: best.0, limit: best.1, machine_bytes, cgroup_bytes }
}

#[cfg(target_os = "linux")]
fn address_space_left() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable struct of the type that the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } != 0
        || limit.rlim_cur == libc::RLIM_INFINITY
    {
        return None;
    }
    let pages: u64 =
        std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').next()?.parse().ok()?;
    // SAFETY: no memory is involved.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    Some(limit.rlim_cur.saturating_sub(pages * page))
}

#[cfg(not(target_os = "linux"))]
fn address_space_left() -> Option<u64> {
    None
}

/// The most memory that this process ever held, in bytes.
pub fn peak_rss() -> Option<u64> {
    #[cfg(unix)]
    {
        // SAFETY: all zeros is a valid `rusage`, and the call fills it.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            if libc::getrusage(libc::RUSAGE_SELF, &mut usage) != 0 {
                return None;
            }
            usage
        };
        let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
        u64::try_from(usage.ru_maxrss).ok().map(|it| it * unit)
    }
    #[cfg(not(unix))]
    None
}

/// What a model needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// All weights.
    pub weight_bytes: u64,
    /// Weights that one decoded token reads.
    pub decode_bytes: u64,
    /// Keys and values of one token, in float32.
    pub kv_bytes_per_token: u64,
    /// The model's context length, 0 where config.json does not say.
    pub context: u64,
}

impl Needs {
    /// Reads it off the files.
    pub fn of(files: &ModelFiles) -> Self {
        let number = |key: &str| files.config.get(key).and_then(serde_json::Value::as_u64);
        let heads = number("num_attention_heads").unwrap_or(0);
        let head_dim =
            number("head_dim").or_else(|| number("hidden_size")?.checked_div(heads)).unwrap_or(0);
        let kv_heads = number("num_key_value_heads").unwrap_or(heads);
        let layers = number("num_hidden_layers").unwrap_or(0);
        let kv_bytes_per_token =
            [2, 4, layers, kv_heads, head_dim].into_iter().fold(1, u64::saturating_mul);
        let experts = number("num_local_experts").or_else(|| number("num_experts")).unwrap_or(1);
        let active = number("num_experts_per_tok").unwrap_or(1).min(experts);
        let untied = is_untied(files);
        let mut needs = Self {
            weight_bytes: 0,
            decode_bytes: 0,
            kv_bytes_per_token,
            context: number("max_position_embeddings").unwrap_or(0),
        };
        let stored = files.tensors.iter().map(|(name, it)| (name, it.bytes.len() as u64));
        let packed = files.packed.iter().map(|(name, it)| (name, it.bytes.len() as u64));
        for (name, bytes) in stored.chain(packed) {
            needs.weight_bytes += bytes;
            needs.decode_bytes += if untied && name.ends_with("embed_tokens.weight") {
                0
            } else if name.contains(".experts.") {
                bytes * active / experts.max(1)
            } else {
                bytes
            };
        }
        needs
    }

    /// With the weights rounded at load.
    ///
    /// # Errors
    /// A config.json that describes no model that is run.
    pub fn rounded(self, files: &ModelFiles, mix: Mix) -> anyhow::Result<Self> {
        let RoundedBytes { all, embedding } = Recipe::new(mix).weight_bytes(files)?;
        let unread = if is_untied(files) { embedding } else { 0 };
        Ok(Self { weight_bytes: all, decode_bytes: all - unread, ..self })
    }

    /// From what models.toml knows of a model that is not here: its weights as it stores them.
    pub fn of_entry(entry: &Entry) -> Option<Self> {
        let bits: u64 = match entry.dtype? {
            StoredType::F32 => 32,
            StoredType::F16 | StoredType::Bf16 => 16,
        };
        let weight_bytes = entry.params?.checked_mul(bits)? / 8;
        Some(Self {
            weight_bytes,
            decode_bytes: weight_bytes,
            kv_bytes_per_token: entry.memory?.kv_bytes_per_token(4)?,
            context: entry.context? as u64,
        })
    }

    /// The same with keys and values of another type.
    #[must_use]
    pub fn with_cache_type(mut self, cache_type: CacheType) -> Self {
        self.kv_bytes_per_token = self.kv_bytes_per_token / 4 * cache_type.bytes() as u64;
        self
    }

    /// Bytes with `tokens` in the cache.
    pub fn with_context(&self, tokens: u64) -> u64 {
        self.weight_bytes
            .saturating_add(self.kv_bytes_per_token.saturating_mul(tokens))
            .saturating_add(WORKING_BYTES)
    }

    /// Refuses what will not fit. `context`: what the user asked for.
    ///
    /// # Errors
    /// `not-enough-memory`, with the numbers and the longest context that would fit.
    pub fn check(&self, context: Option<usize>, available: &Available) -> Result<(), Failure> {
        let tokens = match context {
            Some(tokens) => tokens as u64,
            None => self.context.min(PLANNED_CONTEXT),
        };
        let need = self.with_context(tokens);
        if need <= available.bytes {
            return Ok(());
        }
        let message = format!(
            "the model needs {} ({} of weights, and a context of {tokens} tokens); {} is left by {}",
            printer::bytes(need),
            printer::bytes(self.weight_bytes),
            printer::bytes(available.bytes),
            available.limit
        );
        let fits = available
            .bytes
            .saturating_sub(self.with_context(0))
            .checked_div(self.kv_bytes_per_token)
            .unwrap_or(0);
        Err(Failure::no_room("not-enough-memory", message).hint(match fits {
            0..16 => "take a smaller or more quantized model: minicrit doctor".to_string(),
            _ => format!("pass --ctx {fits} or less"),
        }))
    }
}

/// Whether the head has weights of its own.
fn is_untied(files: &ModelFiles) -> bool {
    let head = "lm_head.weight";
    files.tensors.contains_key(head) || files.packed.keys().any(|it| it.starts_with(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        weight_bytes: 1 << 30,
        decode_bytes: 1 << 30,
        kv_bytes_per_token: 1 << 20,
        context: 1 << 17,
    };

    fn available(bytes: u64) -> Available {
        Available { bytes, limit: "a test", machine_bytes: bytes, cgroup_bytes: None }
    }

    #[test]
    fn the_refusal_names_the_longest_context_that_fits() {
        let two = available(2 << 30);
        let failure = NEEDS.check(Some(5000), &two).expect_err("5000 tokens are 5 GB");
        assert_eq!((failure.name, failure.code), ("not-enough-memory", 4));
        let fits = 1024 - 64;
        assert_eq!(failure.hint, Some(format!("pass --ctx {fits} or less")));
        assert!(NEEDS.check(Some(fits), &two).is_ok());
        assert!(NEEDS.check(Some(fits + 1), &two).is_err());
    }

    #[test]
    fn weights_that_do_not_fit_are_refused_at_any_context() {
        let failure = NEEDS.check(Some(1), &available(1 << 29)).expect_err("too small");
        assert!(failure.hint.is_some_and(|it| it.contains("smaller")));
    }

    #[test]
    fn this_machine_has_memory() {
        let here = super::available();
        assert!(here.bytes > 0 && here.machine_bytes >= here.bytes / 2);
        assert!(peak_rss().is_none_or(|it| it > 1 << 16));
    }
}
