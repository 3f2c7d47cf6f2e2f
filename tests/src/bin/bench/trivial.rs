//! The smallest static program there is: it ends with 0. What starting it takes is what the
//! operating system or the container engine takes for any program.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::Error;

#[cfg(target_arch = "x86_64")]
const MACHINE: (u16, &[u8]) = (
    62,
    &[
        0xb8, 60, 0, 0, 0, // mov eax, 60 (exit)
        0x31, 0xff, // xor edi, edi
        0x0f, 0x05, // syscall
    ],
);

#[cfg(target_arch = "aarch64")]
const MACHINE: (u16, &[u8]) = (
    183,
    &[
        0xa8, 0x0b, 0x80, 0xd2, // mov x8, 93 (exit)
        0x00, 0x00, 0x80, 0xd2, // mov x0, 0
        0x01, 0x00, 0x00, 0xd4, // svc 0
    ],
);

/// Writes the program to `trivial` in `dir`.
pub(crate) fn write(dir: &Path) -> Result<PathBuf, Error> {
    let path = dir.join("trivial");
    std::fs::write(&path, image())?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    Ok(path)
}

/// An ELF file of one header, one segment and the code. Source: elf(5).
fn image() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let (machine, code) = MACHINE;
    let size = HEADERS + code.len() as u64;
    let mut image = Vec::new();
    let mut put = |bytes: &[u8]| image.extend_from_slice(bytes);
    put(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bits, little-endian, version 1
    put(&2_u16.to_le_bytes()); // an executable
    put(&machine.to_le_bytes());
    put(&1_u32.to_le_bytes());
    put(&(BASE + HEADERS).to_le_bytes()); // where it begins
    put(&64_u64.to_le_bytes()); // the segment's header follows
    put(&0_u64.to_le_bytes());
    put(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        put(&half.to_le_bytes());
    }
    put(&1_u32.to_le_bytes()); // to be loaded,
    put(&5_u32.to_le_bytes()); // read and executed
    for word in [0, BASE, BASE, size, size, 0x1000] {
        put(&word.to_le_bytes());
    }
    put(code);
    image
}
