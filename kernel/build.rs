//! Links the kernel binary by `kernel.ld`, and by nothing else's defaults.

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    println!("cargo:rerun-if-changed=kernel.ld");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bin=baton=-T{dir}/kernel.ld");
    println!("cargo:rustc-link-arg-bin=baton=--build-id=none");
}
