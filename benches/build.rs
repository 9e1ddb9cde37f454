//! Compiles the rival that is written in C++, where its headers are installed.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// Where distributions put Boost.
const PLACES: [&str; 2] = ["/usr/include", "/usr/local/include"];

fn main() {
    println!("cargo::rerun-if-changed=src/rivals/boost.cpp");
    println!("cargo::rerun-if-env-changed=BOOST_INCLUDE");
    println!("cargo::rustc-check-cfg=cfg(boost, boost_newer)");
    if std::env::var_os("CARGO_FEATURE_RIVALS").is_none() {
        return;
    }
    let is_there = |place: &&str| {
        let header = "boost/interprocess/managed_mapped_file.hpp";
        Path::new(place).join(header).exists()
    };
    let told = std::env::var("BOOST_INCLUDE").ok();
    let told = told.as_deref().filter(is_there);
    let found = PLACES.into_iter().find(is_there);
    // The one that was told of is another one beside the system's, or the only one.
    match (found, told) {
        (Some(_), Some(newer)) => {
            compile("boost", "boost_functions", None);
            compile("boost_newer", "boost_newer_functions", Some(newer));
        }
        (_, include) if found.is_some() || include.is_some() => {
            compile("boost", "boost_functions", include);
        }
        _ => {}
    }
}

fn compile(name: &str, functions: &str, include: Option<&str>) {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3).warnings(false);
    build
        .define("NDEBUG", None)
        .define("BOOST_FUNCTIONS", functions);
    if let Some(include) = include {
        build.include(include);
    }
    if let (Some(include), true) = (include, name != "boost") {
        // Two of them in one program must not have the same names. Where its headers include each other by
        // macros, they ask for the new name, too.
        build.define("boost", name);
        let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
        let link = folder.join(name);
        let _ = std::fs::remove_file(&link);
        if symlink(Path::new(include).join("boost"), link).is_ok() {
            build.include(folder);
        }
    }
    build.file("src/rivals/boost.cpp");
    // Without Boost there is one rival less; that it is found and does not compile is no reason to
    // measure nothing.
    match build.try_compile(&format!("sharena_bench_{name}")) {
        Ok(()) => println!("cargo::rustc-cfg={name}"),
        Err(error) => println!("cargo::warning={name} is left out: {error}"),
    }
}
