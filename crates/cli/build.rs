//! How the binary is linked: without shared libraries and at a fixed address, where the C compiler's
//! archives are there.
//!
//! To find, map and relocate libraries takes a tenth of a millisecond each, a good part of what a short
//! command takes; and a binary without any runs wherever it is copied to. To relocate the program itself
//! writes to each page that has an address in it, about fifty copies of a page that most commands never
//! read: a seventh of what they take. A random address is a second wall behind memory safety, and only
//! `seam/` is unsafe; stack, heap and mappings have theirs as ever. Who has to ship position-independent
//! programs sets WHOSE_PIE=1 when they build. Cargo has no way to say
//! so for one binary (`crt-static` in RUSTFLAGS is for macros too, which can't be), so the linker
//! is told: wherever it is asked for a shared library, it finds a linker script that names the
//! archive. Where an archive is missing, the binary is linked as usual.
//!
//! The linker also puts first, side by side, what short commands run (`order.txt`, which `cargo xtask order`
//! writes): a page of the program that is touched brings 15 around it, and such a command touched two
//! thirds of all there are. A line that fits nothing any more is no error. Both linkers that rustc goes to by itself,
//! its own lld and GNU ld, take such a script; who chooses another gets its order.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Asks for a program that runs at any address, with 1.
const KEEP_PIE: &str = "WHOSE_PIE";

/// Functions, by patterns of their symbols, beside this file.
const ORDER: &str = "order.txt";

/// What the standard library asks for, and the archive that has it.
const LIBRARIES: [(&str, &str); 8] = [
    ("c", "libc.a"),
    ("gcc", "libgcc.a"),
    ("m", "libm.a"),
    ("gcc_s", "libgcc_eh.a"),
    ("rt", "librt.a"),
    ("pthread", "libpthread.a"),
    ("util", "libutil.a"),
    ("dl", "libdl.a"),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    println!("cargo:rerun-if-changed={ORDER}");
    let variable = |key: &str| std::env::var(key).unwrap_or_default();
    if variable("CARGO_CFG_TARGET_OS") != "linux" || variable("CARGO_CFG_TARGET_ENV") != "gnu" {
        return;
    }
    let out = variable("OUT_DIR");
    let script = Path::new(&out).join("order.ld");
    let written =
        std::fs::read_to_string(ORDER).and_then(|order| std::fs::write(&script, ordered(&order)));
    let chosen = [variable("RUSTC_LINKER"), variable("CARGO_ENCODED_RUSTFLAGS")];
    let is_usual = chosen[0].is_empty() && !chosen[1].contains("link");
    if written.is_ok() && is_usual && variable("PROFILE") == "release" {
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
    }
    let [linker, _] = chosen;
    let linker = match linker {
        named if named.is_empty() => "cc".to_owned(),
        named => named,
    };
    let directory = Path::new(&out).join("archives");
    if archives(&linker).is_some_and(|archives| scripts(&directory, &archives).is_ok()) {
        // Not by link-search, which all that is built along with this would follow.
        println!("cargo:rustc-link-arg-bins=-L{}", directory.display());
        println!("cargo:rerun-if-env-changed={KEEP_PIE}");
        if variable(KEEP_PIE) == "1" {
            println!("cargo:rustc-link-arg-bins=-static-pie");
        } else {
            println!("cargo:rustc-link-arg-bins=-no-pie");
            println!("cargo:rustc-link-arg-bins=-static");
        }
    }
}

/// A script that adds to what the linker does by itself: these functions' sections before all others.
fn ordered(order: &str) -> String {
    let sections = |function: &str| format!("*(.text.{function} .text.unlikely.{function})\n");
    let sections: String = order.lines().map(sections).collect();
    format!("SECTIONS {{ .text.order : {{\n{sections}}} }}\nINSERT BEFORE .text;\n")
}

/// The archives, if the compiler has them all, and what a static program starts with.
fn archives(linker: &str) -> Option<Vec<PathBuf>> {
    find(linker, "crt1.o")?;
    find(linker, "rcrt1.o")?;
    LIBRARIES.iter().map(|(_, archive)| find(linker, archive)).collect()
}

fn find(linker: &str, file: &str) -> Option<PathBuf> {
    let output = Command::new(linker).arg(format!("-print-file-name={file}")).output().ok()?;
    // It answers with the bare name when it has no such file.
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    (path.is_absolute() && path.is_file()).then_some(path)
}

fn scripts(directory: &Path, archives: &[PathBuf]) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let all: String = archives.iter().map(|archive| format!(" {}", archive.display())).collect();
    for ((library, _), archive) in LIBRARIES.iter().zip(archives) {
        // libc comes last, and has need of what came before it: GNU ld looks at an archive once.
        let script = match *library {
            "c" => format!("GROUP({all} )\n"),
            _ => format!("INPUT({})\n", archive.display()),
        };
        std::fs::write(directory.join(format!("lib{library}.so")), script)?;
    }
    Ok(())
}
