// SPDX-License-Identifier: GPL-2.0
//! Which pages of a process are there (`PAGEMAP_SCAN`, since Linux 6.7).

use super::answer;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::ptr;

/// The page belongs to a file.
pub const FILE: u64 = 1 << 2;
/// The page is in memory.
pub const PRESENT: u64 = 1 << 3;
/// The page is in swap.
pub const SWAPPED: u64 = 1 << 4;
/// The page is the kernel's page of zeros.
pub const ZERO: u64 = 1 << 5;

/// `struct page_region` of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// First address behind.
    pub end: u64,
    /// The categories that were asked for.
    pub categories: u64,
}

/// `struct pm_scan_arg` of the kernel.
#[repr(C)]
struct Arguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`
const PAGEMAP_SCAN: libc::Ioctl =
    ((3 << 30) | (size_of::<Arguments>() << 16) | ((b'f' as usize) << 8) | 16) as libc::Ioctl;

/// Fills `regions` with the ranges between `start` and `end` whose pages have one of the categories `any` and none of
/// `none`. Returns how many there are, and the address to go on from.
pub fn scan(
    pagemap: BorrowedFd<'_>,
    start: u64,
    end: u64,
    any: u64,
    none: u64,
    regions: &mut [Region],
) -> io::Result<(usize, u64)> {
    let mut arguments = Arguments {
        size: size_of::<Arguments>() as u64,
        flags: 0,
        start,
        end,
        walk_end: 0,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        max_pages: 0,
        category_inverted: none,
        category_mask: none,
        category_anyof_mask: any,
        return_mask: any,
    };
    // SAFETY: the structure says its size and that of the vector, and both live as long as the call.
    let count = answer(
        unsafe {
            libc::ioctl(
                pagemap.as_raw_fd(),
                PAGEMAP_SCAN,
                ptr::from_mut(&mut arguments),
            )
        }
        .into(),
    )?;
    Ok((count as usize, arguments.walk_end))
}
