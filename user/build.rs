//! Links the programs by `user.ld`, and by nothing else's defaults.

fn main() {
    println!("cargo:rerun-if-changed=user.ld");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        // Cargo links members from the workspace's folder. A relative path holds when the checkout is moved, too.
        println!("cargo:rustc-link-arg-bins=-Tuser/user.ld");
        println!("cargo:rustc-link-arg-bins=--build-id=none");
        // Programs have no debugger here, and the initrd carries each of them.
        println!("cargo:rustc-link-arg-bins=--strip-all");
    }
}
