// SPDX-License-Identifier: GPL-2.0

//! The one table of sessions. Statics with locks need `unsafe` to be set up.

use crate::kx::deadline;
use crate::session::Session;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

kernel::sync::global_lock! {
    // SAFETY: `init` runs in the module's init, before the family is registered.
    unsafe(uninit) static SESSIONS: Mutex<KVVec<Arc<Session>>> = KVVec::new();
}

static READY: AtomicBool = AtomicBool::new(false);

/// Sets the table up, and that of deadlines.
pub(crate) fn init() {
    if !READY.swap(true, Ordering::AcqRel) {
        // SAFETY: Runs once, before the family is registered.
        unsafe {
            SESSIONS.init();
            deadline::init();
        }
    }
}

/// Runs `body` with the table locked.
pub(crate) fn with<T>(body: impl FnOnce(&mut KVVec<Arc<Session>>) -> T) -> T {
    body(&mut SESSIONS.lock())
}
