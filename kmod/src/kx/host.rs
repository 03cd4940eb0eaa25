// SPDX-License-Identifier: GPL-2.0

//! The kernel that runs.

use crate::sys;
use core::ptr;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::prelude::*;

/// Its release, as `uname -r`.
pub(crate) fn release() -> &'static [u8] {
    // SAFETY: The release of the initial UTS namespace is written only at boot and ends with a zero.
    unsafe { CStr::from_char_ptr(sys::pmig_release()) }.to_bytes()
}

/// CRC-32 of the type information of the kernel that the module was built for, 0 if it had none.
pub(crate) fn btf_checksum_of_build() -> u32 {
    // SAFETY: A constant.
    unsafe { sys::pmig_btf_checksum_of_build() }
}

/// A file that the module reads.
struct OpenFile(NonNull<bindings::file>);

impl Drop for OpenFile {
    fn drop(&mut self) {
        // SAFETY: Opened by `btf_checksum`.
        unsafe { bindings::filp_close(self.0.as_ptr(), ptr::null_mut()) };
    }
}

/// CRC-32 of the type information of the kernel that runs.
pub(crate) fn btf_checksum() -> Result<u32> {
    let path = c"/sys/kernel/btf/vmlinux";
    // SAFETY: Process context; the path ends with a zero.
    let file = unsafe { bindings::filp_open(path.as_char_ptr(), bindings::O_RDONLY as i32, 0) };
    let file = OpenFile(NonNull::new(from_err_ptr(file)?).ok_or(ENOENT)?);
    let mut buffer = KVec::from_elem(0u8, 1 << 16, GFP_KERNEL)?;
    let mut position = 0;
    let mut checksum = !0;
    loop {
        // SAFETY: The file is open; the buffer is as long as is said.
        let read = unsafe {
            bindings::kernel_read(
                file.0.as_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &mut position,
            )
        };
        let length = usize::try_from(read).map_err(|_| Error::from_errno(read as i32))?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return Ok(!checksum);
        };
        // SAFETY: The bytes are valid.
        checksum = unsafe { sys::pmig_crc32(checksum, bytes.as_ptr().cast(), length) };
    }
}
