// SPDX-License-Identifier: GPL-2.0
//! Builds the vessel, a program of its own that pmigctl carries inside.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() -> Result<(), Box<dyn Error>> {
    let source = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("vessel");
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-changed=build.rs");
    let output = PathBuf::from(env::var("OUT_DIR")?).join("vessel.elf");
    let status = Command::new(env::var("RUSTC")?)
        .args([
            "--edition=2021",
            "--crate-name=pmig_vessel",
            "--crate-type=bin",
        ])
        .args(["--target", TARGET])
        .args(["-Copt-level=2", "-Cpanic=abort", "-Cforce-unwind-tables=no"])
        .args(["-Coverflow-checks=off", "-Cdebug-assertions=off"])
        // The code is copied to another address and runs there.
        .args(["-Crelocation-model=pic", "-Ctarget-feature=+crt-static"])
        // Without this, calls would go through a table of addresses.
        .args(["-Crelro-level=off"])
        .args([
            "-Clink-arg=-nostartfiles",
            "-Clink-arg=-nostdlib",
            "-Clink-arg=-static-pie",
        ])
        .args([
            "-Clink-arg=-Wl,-z,noexecstack",
            "-Clink-arg=-Wl,--build-id=none",
        ])
        .args(["-Cstrip=symbols", "--cap-lints=allow"])
        .arg("-o")
        .arg(&output)
        .arg(source.join("main.rs"))
        .status()?;
    if !status.success() {
        return Err(format!("the vessel does not compile: {status}").into());
    }
    let size = code_size(&fs::read(&output)?)?;
    println!("cargo::rustc-env=PMIG_VESSEL_CODE_SIZE={size}");
    println!("cargo::rustc-env=PMIG_VESSEL_ELF={}", output.display());
    Ok(())
}

/// How many bytes from the beginning of the image must be copied, in whole pages, to have all code and constants.
/// Refuses a program that cannot be copied.
fn code_size(elf: &[u8]) -> Result<u64, Box<dyn Error>> {
    const PT_LOAD: u64 = 1;
    const PT_DYNAMIC: u64 = 2;
    const PF_X: u64 = 1;
    const PF_W: u64 = 2;
    // DT_PLTREL.., DT_RELA, DT_REL, DT_JMPREL, DT_RELR
    const RELOCATIONS: [u64; 5] = [2, 7, 17, 23, 36];
    let number = |offset: u64, size: usize| -> Result<u64, Box<dyn Error>> {
        let start = usize::try_from(offset)?;
        let bytes = elf
            .get(start..start + size)
            .ok_or("the vessel is cut off")?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let headers = number(0x20, 8)?;
    let count = number(0x38, 2)?;
    let mut executable = false;
    let mut end = 0;
    for index in 0..count {
        let header = headers + index * 56;
        let (kind, flags) = (number(header, 4)?, number(header + 4, 4)?);
        let (offset, address) = (number(header + 8, 8)?, number(header + 16, 8)?);
        let (file_size, memory_size) = (number(header + 32, 8)?, number(header + 40, 8)?);
        if kind == PT_LOAD && flags & PF_W == 0 {
            // The kernel maps whole pages, so segments that begin in the page after are contiguous.
            if address & !0xfff > (end + 0xfff) & !0xfff {
                return Err("the vessel has a gap between its segments".into());
            }
            end = address + memory_size;
            executable |= flags & PF_X != 0;
        }
        if kind == PT_DYNAMIC {
            for entry in (offset..offset + file_size).step_by(16) {
                if RELOCATIONS.contains(&number(entry, 8)?) {
                    return Err("the vessel has relocations".into());
                }
            }
        }
    }
    if !executable {
        return Err("the vessel has no code".into());
    }
    Ok((end + 0xfff) & !0xfff)
}
