// SPDX-License-Identifier: GPL-2.0

//! References to this module: while one lives, the module cannot be unloaded.

use crate::sys;

/// A reference to this module.
pub(crate) struct ModuleRef(());

impl ModuleRef {
    /// Counts a reference. The caller runs in the module, so there is one to add to.
    pub(crate) fn new() -> Self {
        // SAFETY: See above.
        unsafe { sys::pmig_module_get() };
        Self(())
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: Gives back the reference that `new` took. Requests and notifications hold the module by other means
        // while they run: unregistering the family or the notifier waits for them.
        unsafe { sys::pmig_module_put() };
    }
}
