//! Compiles the rival that is written in C++, where its headers are installed.

use std::path::Path;

/// Where distributions put Boost.
const PLACES: [&str; 2] = ["/usr/include", "/usr/local/include"];

fn main() {
    println!("cargo::rerun-if-changed=src/rivals/boost.cpp");
    println!("cargo::rerun-if-env-changed=BOOST_INCLUDE");
    println!("cargo::rustc-check-cfg=cfg(boost)");
    let told = std::env::var("BOOST_INCLUDE").ok();
    let mut places = told.iter().map(String::as_str).chain(PLACES);
    let header = "boost/interprocess/managed_mapped_file.hpp";
    let Some(include) = places.find(|place| Path::new(place).join(header).exists()) else {
        return;
    };
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3).warnings(false);
    build.define("NDEBUG", None).file("src/rivals/boost.cpp");
    if told.as_deref() == Some(include) {
        build.include(include);
    }
    // Without Boost there is one rival less; that it is found and does not compile is no reason to
    // measure nothing.
    match build.try_compile("sharena_bench_boost") {
        Ok(()) => println!("cargo::rustc-cfg=boost"),
        Err(error) => println!("cargo::warning=Boost is left out: {error}"),
    }
}
