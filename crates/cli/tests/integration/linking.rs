//! What the build tells the linker, given to the one that comes with C compilers: rustc brings its own for
//! some machines, and for others does not.

use std::path::Path;
use std::process::Command;

use whose_testkit::require;

/// Prints by what needs libgcc behind libc; a function is called as one that short commands run.
const PROGRAM: &str = r#"
#include <stdio.h>

__attribute__((noinline, section(".text._ZN5whose3run17h0123456789abcdefE")))
int first(int n) { return n + 2; }

int main(int n, char **words) { return printf("%.1Lf %d\n", (long double)n / 2, first(n)) < 0; }
"#;
/// As rustc asks for them.
const LIBRARIES: [&str; 8] =
    ["-Wl,-Bdynamic", "-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

#[test]
fn gnu_ld_links_as_the_build_tells_it() {
    let out = Path::new(env!("OUT_DIR"));
    let (archives, order) = (out.join("archives"), out.join("order.ld"));
    if !require(&["cc", "ld.bfd", &archives.display().to_string()]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("program.c"), dir.path().join("program"));
    std::fs::write(&source, PROGRAM).unwrap();
    let linked = Command::new("cc")
        .args(["-O1", "-fuse-ld=bfd", "-static", "-no-pie", "-nodefaultlibs", "-o"])
        .args([&program, &source])
        .arg(format!("-L{}", archives.display()))
        .arg(format!("-Wl,-T,{}", order.display()))
        .args(LIBRARIES)
        .output()
        .unwrap();
    assert!(linked.status.success(), "{}", String::from_utf8_lossy(&linked.stderr));
    let ran = Command::new(&program).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "0.5 3\n");
    let bytes = std::fs::read(&program).unwrap();
    assert!(bytes.windows(11).any(|name| name == b".text.order"), "nothing is put first");
}
