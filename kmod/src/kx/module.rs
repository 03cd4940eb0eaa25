// SPDX-License-Identifier: GPL-2.0

//! References to this module: while one lives, the module cannot be unloaded.

use crate::sys;
use kernel::prelude::*;

/// A reference to this module.
pub(crate) struct ModuleRef(());

impl ModuleRef {
    /// Counts a reference. Fails with `ENODEV` if the module is being unloaded: requests may come until the family is gone.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: May be called in any context.
        if unsafe { sys::pmig_module_try_get() } {
            Ok(Self(()))
        } else {
            Err(ENODEV)
        }
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: Gives back the reference that `new` took. Requests and notifications hold the module by other means
        // while they run: unregistering the family or the notifier waits for them.
        unsafe { sys::pmig_module_put() };
    }
}
