//! Links the kernel binary by `kernel.ld`, and by nothing else's defaults.

fn main() {
    println!("cargo:rerun-if-changed=kernel.ld");
    println!("cargo:rerun-if-changed=build.rs");
    // Cargo links members from the workspace's folder. A relative path holds when the checkout is moved, too.
    println!("cargo:rustc-link-arg-bin=baton=-Tkernel/kernel.ld");
    // 8 bytes, a hash of all the rest.
    println!("cargo:rustc-link-arg-bin=baton=--build-id=fast");
    // The variants stand in the initrd beside the kernel: symbols would be a third of their size.
    if ["CARGO_FEATURE_NEXT", "CARGO_FEATURE_BROKEN"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
    {
        println!("cargo:rustc-link-arg-bin=baton=--strip-all");
    }
}
