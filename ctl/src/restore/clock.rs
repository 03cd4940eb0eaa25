// SPDX-License-Identifier: GPL-2.0
//! Clocks as the process sees them, and times as system calls take them.

use super::list::args;
use super::list::List;
use super::vessel::Vessel;
use super::VesselError;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;
/// Nanoseconds of a microsecond.
const MICROSECOND: i64 = 1_000;

/// What a clock says in the vessel, nanoseconds.
pub(super) fn now(vessel: &Vessel, clock: u32) -> Result<i64, VesselError> {
    let mut list = List::new();
    let room = list.room(16);
    let arguments = args![clock, room];
    list.call("read the clock", libc::SYS_clock_gettime, arguments);
    let [seconds, nanoseconds] = pair(vessel.run(&list)?.bytes(room, 16));
    Ok(seconds.saturating_mul(SECOND).saturating_add(nanoseconds))
}

/// Two numbers of 64 bits.
pub(super) fn pair(bytes: &[u8]) -> [i64; 2] {
    let mut words = bytes.chunks_exact(8).map(|bytes| {
        bytes
            .first_chunk::<8>()
            .map_or(0, |bytes| i64::from_le_bytes(*bytes))
    });
    [words.next().unwrap_or(0), words.next().unwrap_or(0)]
}

/// The words of a `struct itimerspec`.
pub(super) fn itimerspec(interval: i64, value: i64) -> [u64; 4] {
    let words = |time: i64| ((time / SECOND) as u64, (time % SECOND) as u64);
    let ((a, b), (c, d)) = (words(interval), words(value));
    [a, b, c, d]
}

/// The words of a `struct itimerval`; parts of a microsecond make it longer.
pub(super) fn itimerval(interval: i64, value: i64) -> [u64; 4] {
    let words = |time: i64| {
        let time = time.saturating_add(MICROSECOND - 1) / MICROSECOND * MICROSECOND;
        ((time / SECOND) as u64, (time % SECOND / MICROSECOND) as u64)
    };
    let ((a, b), (c, d)) = (words(interval), words(value));
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_words() {
        assert_eq!(itimerspec(2_000_000_003, 5), [2, 3, 0, 5]);
        assert_eq!(itimerval(2_000_003_000, 1), [2, 3, 0, 1]);
        assert_eq!(itimerval(0, 999_999_999), [0, 0, 1, 0]);
    }
}
