//! `cargo xtask order`: which functions short commands run, so that the linker puts them side by side.
//!
//! A program's pages come in windows of 64 KiB around the one that is touched. What a card runs lies in most
//! of the hundred windows of the whole text, and then in ten. `crates/cli/build.rs` hands the list on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::bench::docker::Held;
use crate::build::{STATIC, c_program, whose};

/// The list, beneath the root.
const LIST: &str = "crates/cli/order.txt";
const SOURCE: &str = include_str!("order.c");
/// Functions that one line may stand for: others of a generic function are not told apart by name.
const ALIKE: usize = 4;

/// A function of the program.
#[derive(Debug)]
struct Function {
    address: u64,
    pattern: String,
}

/// Writes the list anew, from a fresh release build or the program named.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<bool> {
    let named = match words {
        [] => None,
        [word, program] if word == "--whose" => Some(PathBuf::from(program)),
        _ => bail!("usage: cargo xtask order [--whose PROGRAM]"),
    };
    ensure!(cfg!(target_arch = "x86_64"), "it reads the registers of x86-64");
    let (program, _) = whose(root, named.as_ref())?;
    let scratch = std::env::temp_dir().join(format!("whose-order-{}", std::process::id()));
    std::fs::create_dir(&scratch).with_context(|| format!("{}", scratch.display()))?;
    let made = list(&program, &scratch);
    std::fs::remove_dir_all(&scratch).with_context(|| format!("{}", scratch.display()))?;
    let lines = made?;
    let count = lines.len();
    let text = lines.into_iter().map(|line| line + "\n").collect::<String>();
    std::fs::write(root.join(LIST), text).with_context(|| LIST.to_owned())?;
    println!("{LIST}: {count} functions");
    Ok(true)
}

/// The lines: what most commands run first, in the order in which it comes, then what one of them does.
fn list(program: &Path, scratch: &Path) -> Result<Vec<String>> {
    let functions = functions(program)?;
    let tracer = c_program(scratch, "order", SOURCE, STATIC)?;
    let addresses = scratch.join("functions");
    let text: String = functions.iter().map(|f| format!("{:x}\n", f.address)).collect();
    std::fs::write(&addresses, text).context("the addresses")?;
    let docker = Held::start()?;
    let (name, inside) = docker.asked()?;
    let (inside, own) = (inside.to_string(), std::process::id().to_string());
    let commands: [&[&str]; 9] = [
        &["exe", &inside],
        &["exe", &own],
        &[&inside],
        &[&own],
        &["pids", name],
        &[name],
        &["--json", &inside],
        &["exe", "--json", &inside],
        &["ps", &inside],
    ];
    let mut users: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let mut met: Vec<u64> = Vec::new();
    for (number, words) in commands.iter().enumerate() {
        let mut traced = Command::new(&tracer);
        for address in entered(traced.arg(&addresses).arg(program).args(*words))? {
            let by = users.entry(address).or_default();
            if by.is_empty() {
                met.push(address);
            }
            by.push(number);
        }
    }
    // The sort keeps those together, in their order, that the same commands run.
    met.sort_by_key(|at| users.get(at).map(|by| (Reverse(by.len()), by.clone())));
    let mut alike: BTreeMap<&str, usize> = BTreeMap::new();
    functions.iter().for_each(|f| *alike.entry(&f.pattern).or_default() += 1);
    let by_address: BTreeMap<u64, &Function> = functions.iter().map(|f| (f.address, f)).collect();
    let patterns = met.iter().filter_map(|at| Some(by_address.get(at)?.pattern.as_str()));
    let few = patterns.filter(|p| alike.get(p).is_some_and(|count| *count <= ALIKE));
    let mut told = BTreeSet::new();
    Ok(few.filter(|p| told.insert(*p)).map(str::to_owned).collect())
}

/// The functions by address.
fn functions(program: &Path) -> Result<Vec<Function>> {
    let nm = Command::new("nm").args(["--defined-only", "-n"]).arg(program).output();
    let nm = nm.context("nm (Debian package binutils)")?;
    ensure!(nm.status.success(), "nm: {}", String::from_utf8_lossy(&nm.stderr));
    let text = String::from_utf8_lossy(&nm.stdout);
    let mut functions: Vec<Function> = text.lines().filter_map(function).collect();
    functions.dedup_by_key(|f| f.address);
    ensure!(!functions.is_empty(), "{} has no symbols", program.display());
    Ok(functions)
}

fn function(line: &str) -> Option<Function> {
    let mut words = line.split_whitespace();
    let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
    // Those of C libraries lie in sections that have no name of theirs.
    let is_rust = name.starts_with("_ZN") || name.starts_with("_R");
    (is_rust && matches!(kind, "t" | "T")).then_some(())?;
    Some(Function { address: u64::from_str_radix(address, 16).ok()?, pattern: pattern(name) })
}

/// A symbol's name without what the compiler and the place of the build put into it: a hash at the end
/// (`17h0123456789abcdefE`), or one of each crate (`NtCsjrHSEGnQ3l9_3std`). `$` has a meaning to linkers.
fn pattern(name: &str) -> String {
    if let Some((path, _)) = name.rsplit_once("17h").filter(|_| name.starts_with("_ZN")) {
        return format!("{}17h*", path.replace('$', "?"));
    }
    let mut pattern = String::new();
    let mut rest = name;
    while let Some(at) = rest.find("Cs") {
        let (before, hash) = rest.split_at(at);
        let digits = hash[2..].bytes().take_while(u8::is_ascii_alphanumeric).count();
        let is_crate = hash[2 + digits..].starts_with('_');
        let end = if is_crate { 3 + digits } else { 2 };
        pattern.push_str(before);
        pattern.push_str(if is_crate { "Cs*_" } else { "Cs" });
        rest = &hash[end..];
    }
    (pattern + rest).replace('$', "?")
}

/// The addresses of the functions that a run enters.
fn entered(run: &mut Command) -> Result<Vec<u64>> {
    let ran = run.stdin(Stdio::null()).output().context("running the program with breakpoints")?;
    ensure!(ran.status.success(), "{}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8_lossy(&ran.stdout);
    let addresses: Vec<u64> =
        text.lines().filter_map(|line| u64::from_str_radix(line, 16).ok()).collect();
    ensure!(
        !addresses.is_empty(),
        "{run:?} ran nothing: is the program linked at a fixed address?"
    );
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::{function, pattern};

    #[test]
    fn what_a_build_puts_into_names_is_left_out() {
        for (name, expected) in [
            ("_ZN5whose4args5parse17h0123456789abcdefE", "_ZN5whose4args5parse17h*"),
            ("_ZN3a17hb4$LT$T$GT$3new17h0123456789abcdefE.llvm.12", "_ZN3a17hb4?LT?T?GT?3new17h*"),
            (
                "_RNvXsq_NtCslNYArtu3iFV_5alloc6stringNtCsgEmfK2I1SDS_4core3fmt",
                "_RNvXsq_NtCs*_5alloc6stringNtCs*_4core3fmt",
            ),
            ("_RNvC3Css", "_RNvC3Css"),
        ] {
            assert_eq!(pattern(name), expected);
        }
    }

    #[test]
    fn functions_of_rust_alone_are_told() {
        let lines = "0000000000000010 t _ZN1a17h0E\n0000000000000020 d _ZN1b17h0E\n\
                     0000000000000030 T _RNvC1c\n0000000000000040 T main\n                 U free";
        let functions: Vec<(u64, String)> =
            lines.lines().filter_map(function).map(|f| (f.address, f.pattern)).collect();
        assert_eq!(functions, [(0x10, "_ZN1a17h*".to_owned()), (0x30, "_RNvC1c".to_owned())]);
    }
}
