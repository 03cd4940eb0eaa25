// SPDX-License-Identifier: GPL-2.0

//! pmig: live process migration.

use kernel::prelude::*;
use pmig_wire::cred::Credentials;
use zerocopy::FromZeros;

mod sys;

module! {
    type: Pmig,
    name: "pmig",
    authors: ["pmig developers"],
    description: "Live process migration",
    license: "GPL",
}

struct Pmig;

impl kernel::Module for Pmig {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let mut credentials = Credentials::new_zeroed();
        credentials.permitted.set(1 << 21);
        pr_info!(
            "loaded: {} bytes, {}\n",
            size_of::<sys::user_regset>(),
            pmig_core::has_capability(credentials.permitted.get(), 21)
        );
        Ok(Pmig)
    }
}
