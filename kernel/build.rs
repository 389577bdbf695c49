//! Links the kernel binary by `kernel.ld`, and by nothing else's defaults.

fn main() {
    println!("cargo:rerun-if-changed=kernel.ld");
    println!("cargo:rerun-if-changed=build.rs");
    // Cargo links members from the workspace's folder. A relative path holds when the checkout is moved, too.
    println!("cargo:rustc-link-arg-bin=baton=-Tkernel/kernel.ld");
    println!("cargo:rustc-link-arg-bin=baton=--build-id=none");
}
