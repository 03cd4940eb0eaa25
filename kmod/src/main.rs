// SPDX-License-Identifier: GPL-2.0

//! pmig: live process migration.
//!
//! [`channel`] is the door: every request comes through it. [`session`] owns what [`freeze`] parks. [`capture`] describes
//! a process, [`restore`] and [`stream`] turn a vessel into one. [`kx`] holds the wrappers that need `unsafe`.

use kernel::prelude::*;

mod capture;
mod channel;
mod freeze;
mod kx;
mod release;
mod restore;
mod session;
mod stream;
mod sys;

module! {
    type: Pmig,
    name: "pmig",
    authors: ["pmig developers"],
    description: "Live process migration",
    license: "GPL",
}

#[pin_data(PinnedDrop)]
struct Pmig {
    #[pin]
    registration: kx::netlink::Registration,
}

impl kernel::InPlaceModule for Pmig {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _: {
                release::check()?;
                kx::table::init();
            },
            registration <- kx::netlink::Registration::new::<channel::Channel>(module),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Pmig {
    fn drop(self: Pin<&mut Self>) {
        kx::deadline::clear();
        // No session and no parked task is left: each held the module. One may still be leaving the callback.
        kx::park::drain();
    }
}
