//! How the binary is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The standard library unwinds by libgcc_s, a shared library that takes a tenth of a short
    // command's time to load. The compiler that links comes with the same code as an archive, which
    // is looked through first; where the linker does not take it, the shared one is used as before.
    let target = |key: &str| std::env::var(key).unwrap_or_default();
    if target("CARGO_CFG_TARGET_OS") == "linux" && target("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}
