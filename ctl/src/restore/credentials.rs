// SPDX-License-Identifier: GPL-2.0
//! How a thread of a vessel, which starts as root with all capabilities, becomes who the program's thread was.

use super::list::args;
use super::list::List;
use crate::image::ThreadCredentials;

const PR_SET_SECUREBITS: u64 = 28;
const PR_CAPBSET_DROP: u64 = 24;
const PR_CAP_AMBIENT: u64 = 47;
const PR_CAP_AMBIENT_RAISE: u64 = 2;
/// `SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS`: changing users does not touch capabilities.
const KEEP_EVERYTHING: u64 = (1 << 2) | (1 << 4);
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Adds the setting of the supplementary groups.
pub(super) fn set_groups(list: &mut List, groups: &[u32]) {
    let bytes: Vec<u8> = groups
        .iter()
        .flat_map(|group| group.to_le_bytes())
        .collect();
    let place = list.data(&bytes);
    list.call(
        "set the groups",
        libc::SYS_setgroups,
        args![groups.len(), place],
    );
}

/// Adds `capset`.
fn set_capabilities(list: &mut List, effective: u64, permitted: u64, inheritable: u64) {
    let header: Vec<u8> = [CAPABILITY_VERSION_3, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let header = list.data(&header);
    let half = |shift: u32| {
        [effective, permitted, inheritable]
            .map(|set| (set >> shift) as u32)
            .into_iter()
    };
    let data: Vec<u8> = half(0).chain(half(32)).flat_map(u32::to_le_bytes).collect();
    let data = list.data(&data);
    list.call(
        "set the capabilities",
        libc::SYS_capset,
        args![header, data],
    );
}

/// Adds all that makes the calling thread `own`. `all` are the capabilities that it has, `bounding` those it could get. The
/// order is that of privilege: what a step needs is taken away only afterwards.
pub(super) fn become_user(list: &mut List, own: &ThreadCredentials, all: u64, bounding: u64) {
    let one = &own.credentials;
    list.call(
        "keep capabilities",
        libc::SYS_prctl,
        args![PR_SET_SECUREBITS, KEEP_EVERYTHING],
    );
    set_groups(list, &own.groups);
    let (real, effective, saved) = (one.gid.get(), one.egid.get(), one.sgid.get());
    list.call(
        "set the group",
        libc::SYS_setresgid,
        args![real, effective, saved],
    );
    list.expect_after(
        "set the file system group",
        libc::SYS_setfsgid,
        one.fsgid.get(),
    );
    let (real, effective, saved) = (one.uid.get(), one.euid.get(), one.suid.get());
    list.call(
        "set the user",
        libc::SYS_setresuid,
        args![real, effective, saved],
    );
    list.expect_after(
        "set the file system user",
        libc::SYS_setfsuid,
        one.fsuid.get(),
    );

    // Inheritable before bounding: outside the bounding set nothing can be added to it.
    let (inheritable, permitted) = (one.inheritable.get(), one.permitted.get());
    set_capabilities(list, all, all, inheritable);
    let raise = one.ambient.get();
    for capability in numbers(raise) {
        let arguments = args![PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0];
        list.call("set an ambient capability", libc::SYS_prctl, arguments);
    }
    for capability in numbers(bounding & !one.bounding.get()) {
        list.call(
            "drop a capability",
            libc::SYS_prctl,
            args![PR_CAPBSET_DROP, capability, 0, 0, 0],
        );
    }
    // The last use of CAP_SETPCAP.
    let bits = one.securebits.get();
    list.call(
        "set the securebits",
        libc::SYS_prctl,
        args![PR_SET_SECUREBITS, bits],
    );
    set_capabilities(list, one.effective.get(), permitted, inheritable);
}

fn numbers(set: u64) -> impl Iterator<Item = u64> {
    (0..64).filter(move |number| set >> number & 1 == 1)
}

impl List {
    /// Adds `setfsuid` or `setfsgid`, which answer the number from before: only a second call tells that the first worked.
    fn expect_after(&mut self, what: &'static str, number: libc::c_long, wanted: u32) {
        self.attempt(what, number, args![wanted]);
        self.expect(what, number, args![wanted], wanted.into());
    }
}
