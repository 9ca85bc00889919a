//! `minicrit doctor`: what this machine has, what fits on it, and what is wrong.

use std::path::Path;

use minicrit_engine::{
    NamedError,
    registry::{Entry, Registry, Specialty},
    source::ModelFiles,
};
use minicrit_hub::{audit, state::State};
use minicrit_quant::{Format, WeightFormat, kernels::Level};
use serde::Serialize;
use serde_json::json;
use sysinfo::Disks;

use super::{Status, list};
use crate::{
    catalog::Catalog,
    data_folder,
    env::{Environment, TokenSource},
    memory::{self, Available},
    model::{self, ModelRef},
    printer,
};

/// Formats that the table of what fits has a column for.
const FORMATS: [Format; 4] = [Format::F32, Format::Bf16, Format::Q8_0, Format::Q4_0];
/// Weights are not all: a tenth goes to the cache and to work.
const HEADROOM: f64 = 1.1;
/// Context that a recommendation leaves room for.
const PLANNED_CONTEXT: u64 = 4096;
/// Below this, saving a chat may fail.
const LITTLE_DISK: u64 = 100_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Pass,
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { name, verdict, found: found.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// One model and the bytes it needs in each of [`FORMATS`].
#[derive(Debug, Clone, Serialize)]
struct Fit {
    name: String,
    parameters: u64,
    bytes: [u64; FORMATS.len()],
    /// Computed from files that are here.
    here: bool,
}

/// Checks and prints; fails where a check does.
///
/// # Errors
/// A stream that is gone.
pub fn doctor(
    catalog: &Catalog,
    environment: &Environment,
    network: bool,
    as_json: bool,
) -> anyhow::Result<Status> {
    let registry: &Registry = catalog;
    let available = memory::available();
    let mut checks = vec![
        check_processor(),
        check_cores(environment),
        check_memory(&available),
        check_folder("data folder", data_folder::path(environment).as_deref(), crate::env::HOME),
        check_folder("model cache", environment.hub.cache.as_deref(), "HF_HUB_CACHE"),
        check_token(environment),
        check_state(environment),
        check_audit(environment),
        Check::new(
            "accelerators",
            Verdict::Pass,
            "none used: this build computes on the processor",
        ),
        check_builtin(),
    ];
    if network {
        checks.push(check_reach(catalog));
    }
    let recommended = recommended(registry, available.bytes);
    let fits = fits(catalog);
    if as_json {
        let names = FORMATS.map(Format::name);
        let models: Vec<_> = fits
            .iter()
            .map(|it| {
                let bytes: serde_json::Map<_, _> = std::iter::zip(names, it.bytes)
                    .map(|(name, it)| (name.into(), it.into()))
                    .collect();
                let from = if it.here { "files" } else { "parameters" };
                json!({
                    "name": it.name, "parameters": it.parameters, "from": from, "bytes": bytes,
                })
            })
            .collect();
        printer::json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "kernels": Level::detected().name(),
            "cpu_features": cpu_features(),
            "cores": cores(),
            "memory_bytes": available.machine_bytes,
            "available_memory_bytes": available.bytes,
            "cgroup_memory_bytes": available.cgroup_bytes,
            "checks": checks,
            "recommended": recommended,
            "models": models,
        }))?;
    } else {
        print_report(&checks, &fits, available.bytes, &recommended)?;
    }
    let failed = checks.iter().any(|it| it.verdict == Verdict::Fail);
    Ok(if failed { Status::Failed } else { Status::Done })
}

fn print_report(
    checks: &[Check],
    fits: &[Fit],
    available: u64,
    recommended: &str,
) -> anyhow::Result<()> {
    for Check { name, verdict, found, hint } in checks {
        let mark = match verdict {
            Verdict::Pass => "[PASS]",
            Verdict::Warn => "[WARN]",
            Verdict::Fail => "[FAIL]",
        };
        printer::data(&format!("{mark} {name}: {}", printer::clean(found)))?;
        if let Some(hint) = hint {
            printer::data(&format!("       hint: {}", printer::clean(hint)))?;
        }
    }
    let rows: Vec<[String; 6]> = fits
        .iter()
        .map(|it| {
            let cell = |bytes: u64| {
                let mark = if bytes <= available { "fits" } else { "too large" };
                format!("{} {mark}", printer::bytes(bytes))
            };
            let [f32, bf16, q8, q4] = it.bytes.map(cell);
            let name = if it.here { format!("{} *", it.name) } else { it.name.clone() };
            [name, list::count(it.parameters), f32, bf16, q8, q4]
        })
        .collect();
    printer::data(
        "\nMemory that models need (weights and a tenth, from their parameters; *: from the files \
         here, with a context of 4096):",
    )?;
    let [f32, bf16, q8, q4] = FORMATS.map(Format::name);
    printer::data(&printer::table(["MODEL", "PARAMETERS", f32, bf16, q8, q4], &rows))?;
    printer::data(&format!("\nRecommended here: {recommended}"))?;
    Ok(())
}

/// Every model that has a name or is here. Those that are here are computed from their files.
fn fits(catalog: &Catalog) -> Vec<Fit> {
    let here = list::models_here(catalog);
    let here: Vec<Fit> =
        here.iter().filter_map(|it| fit_of_files(&it.name, it.path.as_deref()?)).collect();
    let is_here = |name: &str| here.iter().any(|it| it.name == name);
    let named = catalog.entries().iter().filter(|it| !is_here(&it.name));
    let named: Vec<Fit> = named.filter_map(|it| Some(fit(&it.name, it.params?))).collect();
    here.into_iter().chain(named).collect()
}

/// `None` where the files are broken or already rounded: `show` says what is wrong with them.
fn fit_of_files(name: &str, path: &Path) -> Option<Fit> {
    let files = ModelFiles::open(path).ok()?;
    let needs = memory::Needs::of(&files);
    let bytes = |format: Format| {
        let rounded = needs.rounded(&files, WeightFormat::from(format).into()).ok()?;
        Some(rounded.with_context(needs.context.min(PLANNED_CONTEXT)))
    };
    let all: Vec<u64> = FORMATS.iter().filter_map(|it| bytes(*it)).collect();
    let parameters =
        files.tensors.values().map(|it| it.shape.iter().product::<usize>() as u64).sum();
    Some(Fit { name: name.to_owned(), parameters, bytes: all.try_into().ok()?, here: true })
}

fn fit(name: &str, parameters: u64) -> Fit {
    let bytes =
        FORMATS.map(|it| (parameters as f64 * it.bits_per_weight() / 8.0 * HEADROOM) as u64);
    Fit { name: name.to_string(), parameters, bytes, here: false }
}

fn check_processor() -> Check {
    let level = Level::detected();
    let features = cpu_features();
    let features = if features.is_empty() { "none known".into() } else { features.join(" ") };
    let found =
        format!("{} kernels will run ({}: {features})", level.name(), std::env::consts::ARCH);
    let slow = level == Level::Portable && std::env::consts::ARCH == "x86_64";
    match slow {
        false => Check::new("processor", Verdict::Pass, found),
        true => Check::new("processor", Verdict::Warn, found)
            .hint("without AVX2 and FMA models run slowly; a virtual machine may hide them"),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn check_cores(environment: &Environment) -> Check {
    let usable = cores();
    let threads = match &environment.threads {
        Some(set) => format!("; {} is {set}", crate::env::THREADS),
        None => String::new(),
    };
    let installed = match sysinfo::System::physical_core_count() {
        Ok(count) => format!(" ({count} physical cores in the machine)"),
        Err(_) => String::new(),
    };
    Check::new(
        "cores",
        Verdict::Pass,
        format!("{usable} usable by this process{installed}{threads}"),
    )
}

fn check_memory(available: &Available) -> Check {
    let Available { bytes, limit, machine_bytes, cgroup_bytes } = *available;
    let cgroup = cgroup_bytes
        .map_or_else(String::new, |it| format!(", cgroup limit {}", printer::bytes(it)));
    let found = format!(
        "{} of {} free for models{cgroup} (bound by {limit})",
        printer::bytes(bytes),
        printer::bytes(machine_bytes)
    );
    match bytes {
        0..200_000_000 => Check::new("memory", Verdict::Warn, found).hint(
            "end other programs, or raise the limit: little more than the built-in model fits",
        ),
        _ => Check::new("memory", Verdict::Pass, found),
    }
}

fn check_folder(name: &'static str, folder: Option<&Path>, variable: &str) -> Check {
    let Some(folder) = folder else {
        return Check::new(name, Verdict::Warn, "this user has no home folder")
            .hint(format!("set {variable}"));
    };
    let disks = Disks::new_with_refreshed_list();
    let existing = folder.ancestors().find(|it| it.exists()).unwrap_or(folder);
    let real = existing.canonicalize().unwrap_or_else(|_| existing.to_path_buf());
    let disk = disks
        .iter()
        .flat_map(|it| it.iter())
        .filter(|it| real.starts_with(it.mount_point()))
        .max_by_key(|it| it.mount_point().as_os_str().len());
    let shown = folder.display();
    match disk.map(sysinfo::Disk::available_space) {
        None => Check::new(name, Verdict::Pass, format!("{shown}")),
        Some(free) if free < LITTLE_DISK => {
            let found = format!("{shown}, {} free", printer::bytes(free));
            Check::new(name, Verdict::Warn, found)
                .hint(format!("free some space, or set {variable} to another disk"))
        }
        Some(free) => {
            Check::new(name, Verdict::Pass, format!("{shown}, {} free", printer::bytes(free)))
        }
    }
}

/// The largest open model for chats whose int8 weights take half of the free memory at most.
fn recommended(registry: &Registry, available: u64) -> String {
    let bits = Format::Q8_0.bits_per_weight();
    let fits = |entry: &&Entry| {
        let need = entry.bytes_needed(bits, PLANNED_CONTEXT);
        !entry.gated
            && !entry.is_builtin()
            && entry.specialty.contains(&Specialty::Chat)
            && need.is_some_and(|it| it <= available / 2)
    };
    match registry.entries().iter().filter(fits).max_by_key(|it| it.params) {
        Some(entry) => format!("minicrit run {} --quant q8", entry.name),
        None => "minicrit run nano".to_string(),
    }
}

fn check_state(environment: &Environment) -> Check {
    let name = "library";
    let Some(folder) = data_folder::path(environment).filter(|it| it.join("library.db").is_file())
    else {
        return Check::new(name, Verdict::Pass, "empty so far");
    };
    match State::open(&folder).and_then(|it| it.models()) {
        Ok(models) => Check::new(name, Verdict::Pass, format!("{} models pulled", models.len())),
        Err(error) => failed(name, &error),
    }
}

fn check_audit(environment: &Environment) -> Check {
    let name = "audit log";
    let Some(folder) = data_folder::path(environment) else {
        return Check::new(name, Verdict::Warn, "this user has no home folder");
    };
    match audit::of_folder(&folder).verify() {
        Ok(it) => Check::new(name, Verdict::Pass, format!("{} records hold", it.records)),
        Err(error) => failed(name, &error),
    }
}

fn check_reach(catalog: &Catalog) -> Check {
    let name = "hub";
    match minicrit_hub::pull::reach(catalog.hub()) {
        Ok(time) => {
            let found = format!("{} answers in {} ms", catalog.hub().endpoint, time.as_millis());
            Check::new(name, Verdict::Pass, found)
        }
        Err(error) => Check { verdict: Verdict::Warn, ..failed(name, &error) },
    }
}

fn failed(name: &'static str, error: &minicrit_hub::Error) -> Check {
    let check = Check::new(name, Verdict::Fail, error.to_string());
    match error.hint() {
        Some(hint) => check.hint(hint),
        None => check,
    }
}

/// Whether there is a token, and where it comes from; never the token.
fn check_token(environment: &Environment) -> Check {
    let hub = &environment.hub;
    let found = match (hub.token_source, &hub.token_path) {
        (Some(TokenSource::Environment), _) => "from HF_TOKEN".to_string(),
        (Some(TokenSource::File), Some(path)) => format!("from {}", path.display()),
        _ => "none; gated models ask for one".to_string(),
    };
    let offline = if hub.offline { "; offline by HF_HUB_OFFLINE" } else { "" };
    Check::new("hub token", Verdict::Pass, format!("{found}{offline}"))
}

fn check_builtin() -> Check {
    match ModelRef::Builtin.files() {
        Ok(files) => {
            let needs = memory::Needs::of(&files);
            let found =
                format!("{}, {} of weights", model::BUILTIN, printer::bytes(needs.weight_bytes));
            Check::new("built-in model", Verdict::Pass, found)
        }
        Err(error) => Check::new("built-in model", Verdict::Fail, format!("{error:#}"))
            .hint("this program is damaged: build or download it again"),
    }
}

/// Instruction sets that matter for speed, as the system names them.
fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let all = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("f16c", is_x86_feature_detected!("f16c")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bw", is_x86_feature_detected!("avx512bw")),
            ("avx512vl", is_x86_feature_detected!("avx512vl")),
            ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
            ("avxvnni", is_x86_feature_detected!("avxvnni")),
        ];
        all.into_iter().filter(|it| it.1).map(|it| it.0).collect()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let all = [
            ("neon", std::arch::is_aarch64_feature_detected!("neon")),
            ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
            ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
            ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
        ];
        all.into_iter().filter(|it| it.1).map(|it| it.0).collect()
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_the_formats() {
        let fit = fit("x", 1_000_000);
        assert_eq!(fit.bytes, [4_400_000, 2_200_000, 1_168_750, 618_750]);
    }
}
