//! Refuses a broken `profiles.json`, and links the shipped binary for the C library of Lambda's Amazon Linux 2023.

#![allow(clippy::print_stdout, reason = "cargo reads the output of a build script")]

use std::{env, fs, io, path::Path};

use openai_realtime::Day;

/// The profiles that `src/profile/mod.rs` compiles in.
const PROFILES: &str = "profiles.json";

/// The first glibc that contains threads and dlopen instead of having separate libraries for them. zig, the linker of
/// `sam build`, links for an older one by default, and loading the two libraries costs a twentieth of a cold start's CPU.
const GLIBC: &str = "2.34";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    check_profiles()?;
    let by_zig = env::var("RUSTC_LINKER").is_ok_and(|linker| linker.contains("zig"));
    if let (true, Ok(architecture), Ok(folder)) = (by_zig, env::var("CARGO_CFG_TARGET_ARCH"), env::var("OUT_DIR")) {
        // zig uses the last of two targets. cargo-zigbuild would drop this one, so it is in a file.
        let arguments = Path::new(&folder).join("zig-arguments");
        fs::write(&arguments, format!("-target {architecture}-linux-gnu.{GLIBC}\n"))?;
        println!("cargo::rustc-link-arg-bins=@{}", arguments.display());
    }
    Ok(())
}

/// Every mistake of the file is an error of the build. A warning is shown with each build.
fn check_profiles() -> io::Result<()> {
    println!("cargo::rerun-if-changed={PROFILES}");
    let findings = token_mint_profile_check::check(&fs::read(PROFILES)?, Day::today());
    for warning in findings.warnings {
        println!("cargo::warning={PROFILES}: {warning}");
    }
    for mistake in findings.mistakes {
        println!("cargo::error={PROFILES}: {mistake}");
    }
    Ok(())
}
