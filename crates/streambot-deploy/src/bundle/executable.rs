//! Whether an executable would run on Lambda: an ELF file for the function's processor that asks
//! for no newer C library than the image has. It refuses to know how it was built.

use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, SectionTable};

use crate::error::{Error, Result};
use crate::function::Architecture;

/// The C library of Lambda's `provided.al2023` image, Amazon Linux 2023:
/// <https://docs.aws.amazon.com/linux/al2023/ug/compare-with-al2.html>.
const IMAGE_GLIBC: Version = Version(2, 34);

/// A version of the GNU C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

/// Checks that `executable`, which is called `what`, would start on Lambda.
pub(super) fn check(what: &str, executable: &[u8], architecture: Architecture) -> Result<()> {
    let built = read(executable).map_err(|error| {
        Error::failed(format!("{what} is no 64-bit Linux executable")).because(error)
    })?;
    let expected = match architecture {
        Architecture::X86_64 => elf::EM_X86_64,
        Architecture::Arm64 => elf::EM_AARCH64,
    };
    if built.machine != expected {
        return Err(Error::failed(format!(
            "{what} is not for {architecture}, which the function runs on"
        ))
        .hint("set `architecture`, or look for a `build.target` in Cargo's configuration"));
    }
    match built.glibc {
        Some(Version(major, minor)) if Version(major, minor) > IMAGE_GLIBC => Err(Error::failed(format!(
            "{what} needs glibc {major}.{minor}, and Lambda's provided.al2023 has {}.{}",
            IMAGE_GLIBC.0, IMAGE_GLIBC.1
        ))
        .hint("build with cargo-lambda (`pipx install cargo-lambda`), which links against the image's glibc")),
        _ => Ok(()),
    }
}

/// What an executable asks of its machine.
#[derive(Debug)]
struct Built {
    machine: elf::Machine,
    /// The newest version of the C library it was linked against; nothing in a static one.
    glibc: Option<Version>,
}

fn read(executable: &[u8]) -> object::read::Result<Built> {
    let header = FileHeader64::<Endianness>::parse(executable)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, executable)?;
    Ok(Built {
        machine: header.e_machine(endian),
        glibc: newest_glibc(&sections, endian, executable)?,
    })
}

/// The newest `GLIBC_x.y` the dynamic linker would look for, whichever library it is asked of.
fn newest_glibc(
    sections: &SectionTable<'_, FileHeader64<Endianness>>,
    endian: Endianness,
    executable: &[u8],
) -> object::read::Result<Option<Version>> {
    let mut newest = None;
    let Some((mut libraries, strings)) = sections.gnu_verneed(endian, executable)? else {
        return Ok(newest);
    };
    let strings = sections.strings(endian, executable, strings)?;
    while let Some((_, mut versions)) = libraries.next()? {
        while let Some(version) = versions.next()? {
            newest = newest.max(glibc_version(version.name(endian, strings)?));
        }
    }
    Ok(newest)
}

fn glibc_version(name: &[u8]) -> Option<Version> {
    let version = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
    let mut numbers = version.split('.').map(str::parse);
    Some(Version(numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The least that passes: the header of a static executable with nothing in it.
#[cfg(test)]
pub(super) fn least(architecture: Architecture) -> Vec<u8> {
    let machine = match architecture {
        Architecture::X86_64 => elf::EM_X86_64,
        Architecture::Arm64 => elf::EM_AARCH64,
    };
    let mut header = vec![0; 64];
    // 64-bit, little-endian, version 1; an executable.
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[16] = 2;
    header[18..20].copy_from_slice(&machine.0.to_le_bytes());
    header[20] = 1;
    header
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The test's own executable, which this machine runs.
    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(glibc_version(b"GLIBC_2.2.5"), Some(Version(2, 2)));
        assert_eq!(glibc_version(b"GLIBC_PRIVATE"), None);
        assert_eq!(glibc_version(b"GCC_3.0"), None);
        assert!(glibc_version(b"GLIBC_2.4") < glibc_version(b"GLIBC_2.34"));
    }

    #[test]
    fn an_executable_of_this_machine_tells_its_processor_and_library() {
        let built = read(&own()).unwrap();
        assert_eq!(built.machine == elf::EM_X86_64, cfg!(target_arch = "x86_64"));
        if cfg!(target_env = "gnu") {
            assert!(built.glibc.unwrap() >= Version(2, 2));
        }
    }

    #[test]
    fn an_executable_for_another_processor_is_refused() {
        let other =
            if cfg!(target_arch = "x86_64") { Architecture::Arm64 } else { Architecture::X86_64 };
        let error = check("what was built", &own(), other).unwrap_err().to_string();
        assert!(error.contains(&format!("is not for {other}")), "{error}");
    }

    #[test]
    fn a_static_executable_of_either_processor_is_taken() {
        for architecture in [Architecture::X86_64, Architecture::Arm64] {
            check("it", &least(architecture), architecture).unwrap();
        }
    }

    #[test]
    fn an_executable_that_needs_a_newer_glibc_is_refused() {
        // Any version named in the string table of needed versions will do; a newer one of the same
        // length takes its place.
        let mut executable = own();
        let at = executable.windows(10).position(|name| name == b"GLIBC_2.34").unwrap();
        executable[at..at + 10].copy_from_slice(b"GLIBC_2.99");
        let error =
            check("what was built", &executable, Architecture::X86_64).unwrap_err().to_string();
        assert_eq!(error, "what was built needs glibc 2.99, and Lambda's provided.al2023 has 2.34");
    }

    #[test]
    fn what_is_no_executable_is_refused() {
        // The fifth byte tells the class: 1 is 32-bit.
        let mut narrow = own();
        narrow[4] = 1;
        for bytes in [&b""[..], b"#!/bin/sh\n", &own()[..200], &narrow] {
            let error =
                check("what was built", bytes, Architecture::X86_64).unwrap_err().to_string();
            assert_eq!(error, "what was built is no 64-bit Linux executable");
        }
    }
}
