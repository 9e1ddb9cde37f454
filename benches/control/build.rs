//! Switches the journal off in this build of sharena.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=sharena_control");
}
