//! Tells rustc that `cfg(loom)` is a name we use on purpose (see src/sync.rs), so that a misspelt one still warns.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(loom)");
}
